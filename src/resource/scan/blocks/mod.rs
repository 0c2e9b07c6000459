//! The fast way through a line: 64 bytes at a time.
mod grammar;
mod members;
mod pass;
mod scalars;
mod strings;

use super::references::Texts;
use super::simd::{Kernel, Task};
use super::walk::{Found, Scratch};
use crate::resource::compartment::{Compartment, NodeId};
pub(super) use members::Frame;
use members::Members;
use pass::Pass;

/// The line is broken, or written in a way that is too rare to be looked at here: the other way decides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Odd;

/// What was found in a line.
pub(super) struct Outcome {
    pub(super) found: Found,
    /// Where the paths of the members begin that came before the type and are still to be walked.
    pub(super) early: Option<NodeId>,
}

/// One line to go through.
pub(super) struct Line<'l, 's, const FULL: bool> {
    pub(super) bytes: &'l [u8],
    pub(super) compartment: Option<&'s Compartment>,
    pub(super) scratch: &'s mut Scratch,
    pub(super) texts: &'s mut Texts,
}

impl<const FULL: bool> Task for Line<'_, '_, FULL> {
    type Output = Result<Outcome, Odd>;

    #[inline(always)]
    fn run<K: Kernel>(self, kernel: K) -> Self::Output {
        let members = Members::new(self.bytes, self.compartment, self.scratch, self.texts);
        Pass::<K, FULL>::new(kernel, self.bytes).run(members)
    }
}
