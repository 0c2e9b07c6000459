//! Element paths as a tree of member names, which the scan walks down.

/// Name of the member of a Reference that holds its text.
const REFERENCE: &str = "reference";

/// The element paths of all types of a compartment. Arrays are no level of their own.
#[derive(Clone, Debug, Default)]
pub(in crate::resource) struct Trie {
    nodes: Vec<Node>,
}

/// Number of a node in its trie.
pub(in crate::resource) type NodeId = usize;

#[derive(Clone, Debug, Default)]
pub(in crate::resource) struct Node {
    is_reference: bool,
    name_lengths: u64,
    children: Vec<Child>,
}

#[derive(Clone, Debug)]
struct Child {
    name: Box<[u8]>,
    node: NodeId,
}

impl Trie {
    /// Adds a node without children: the root of a type.
    pub(super) fn add_root(&mut self) -> NodeId {
        self.nodes.push(Node::default());
        self.nodes.len() - 1
    }

    /// Adds the `reference` of the element that `path` leads to from `root`.
    pub(super) fn add_path(&mut self, root: NodeId, path: &str) {
        let element = path.split('.').fold(root, |node, name| self.add_child(node, name));
        let leaf = self.add_child(element, REFERENCE);
        if let Some(leaf) = self.nodes.get_mut(leaf) {
            leaf.is_reference = true;
        }
    }

    fn add_child(&mut self, parent: NodeId, name: &str) -> NodeId {
        if let Some((_, child)) = self.child(parent, name.as_bytes()) {
            return child;
        }
        let node = self.add_root();
        if let Some(parent) = self.nodes.get_mut(parent) {
            parent.name_lengths |= 1 << name.len().min(63);
            parent.children.push(Child { name: Box::from(name.as_bytes()), node });
        }
        node
    }

    /// The child of that name: its place among its siblings, and itself.
    #[inline]
    pub(in crate::resource) fn child(&self, parent: NodeId, name: &[u8]) -> Option<(usize, NodeId)> {
        let children = &self.nodes.get(parent)?.children;
        children.iter().enumerate().find(|(_, child)| *child.name == *name).map(|(place, child)| (place, child.node))
    }

    /// How long the names of the children are: one bit a length, the last one for 63 and more.
    #[inline]
    pub(in crate::resource) fn name_lengths(&self, node: NodeId) -> u64 {
        self.nodes.get(node).map_or(0, |node| node.name_lengths)
    }

    /// Whether a string here is the text of a reference.
    pub(in crate::resource) fn is_reference(&self, node: NodeId) -> bool {
        self.nodes.get(node).is_some_and(|node| node.is_reference)
    }

    /// Whether anything below is wanted.
    pub(in crate::resource) fn has_children(&self, node: NodeId) -> bool {
        self.nodes.get(node).is_some_and(|node| !node.children.is_empty())
    }
}
