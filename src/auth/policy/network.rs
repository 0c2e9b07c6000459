//! Ranges of addresses.

use std::net::{IpAddr, Ipv4Addr};

/// The addresses that begin with the same bits as one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    address: IpAddr,
    prefix_bits: u32,
}

impl Network {
    /// Reads `203.0.113.0/24`, `2001:db8::/32`, or one address.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let bits: u32 = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits: u32 = match prefix {
            None => bits,
            Some(prefix) if prefix.bytes().all(|byte| byte.is_ascii_digit()) => {
                prefix.parse().ok().filter(|prefix_bits| *prefix_bits <= bits)?
            }
            Some(_) => return None,
        };
        // As for the addresses of requests, a part of IPv4 within IPv6 is taken for itself. What reaches beyond it would
        // hold addresses of both.
        match address.to_canonical() {
            IpAddr::V4(mapped) if address.is_ipv6() => {
                Some(Self { address: mapped.into(), prefix_bits: prefix_bits.checked_sub(96)? })
            }
            _ => Some(Self { address, prefix_bits }),
        }
    }

    pub(super) fn contains(self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => same_start(widened(own), widened(other), self.prefix_bits),
            (IpAddr::V6(own), IpAddr::V6(other)) => same_start(own.to_bits(), other.to_bits(), self.prefix_bits),
            _ => false,
        }
    }
}

/// The address as the first bits of 128.
fn widened(address: Ipv4Addr) -> u128 {
    u128::from(address.to_bits()) << 96
}

fn same_start(one: u128, other: u128, bits: u32) -> bool {
    (one ^ other).leading_zeros() >= bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_what_begins_as_it_does() {
        for (network, address, is_in) in [
            ("203.0.113.0/24", "203.0.113.255", true),
            ("203.0.113.0/24", "203.0.114.0", false),
            ("203.0.113.77/24", "203.0.113.1", true),
            ("203.0.113.7", "203.0.113.7", true),
            ("203.0.113.7", "203.0.113.6", false),
            ("203.0.113.6/31", "203.0.113.7", true),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "203.0.113.7", false),
            ("::/0", "2001:db8::1", true),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("203.0.113.0/24", "::ffff:203.0.113.9", true),
            ("::ffff:203.0.113.0/120", "203.0.113.9", true),
            ("::ffff:203.0.113.0/120", "203.0.114.9", false),
        ] {
            let (network, address) = (Network::parse(network).unwrap(), address.parse().unwrap());
            assert_eq!(network.contains(address), is_in, "{network:?} {address}");
        }
    }

    #[test]
    fn what_is_no_network_is_none() {
        for text in [
            "",
            "/",
            "1.2.3/8",
            "1.2.3.4/33",
            "::/129",
            "1.2.3.4/",
            "1.2.3.4/+8",
            "1.2.3.4/8/8",
            "*",
            "01.2.3.4",
            "::ffff:1.2.3.4/95",
            " 1.2.3.4",
        ] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
    }
}
