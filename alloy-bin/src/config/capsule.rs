//! Values the language can only pass on: what one component exports and another takes, such as a receiver.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// A type that may travel in a capsule. Trait objects travel in a newtype:
/// `struct MetricsReceiver(Arc<dyn Consumer>)`.
pub trait CapsuleType: Any + Send + Sync {
    /// The name that messages show: `expected capsule("MetricsReceiver"), got string`.
    const NAME: &'static str;
}

/// A shared value of any type, and the type's name.
#[derive(Clone)]
pub struct Capsule {
    type_name: &'static str,
    content: Arc<dyn Any + Send + Sync>,
}

impl Capsule {
    /// Wraps a shared value.
    pub fn new<T: CapsuleType>(content: Arc<T>) -> Capsule {
        Capsule { type_name: T::NAME, content }
    }

    /// The value, if it is of that type.
    pub fn downcast<T: CapsuleType>(&self) -> Option<Arc<T>> {
        Arc::clone(&self.content).downcast().ok()
    }

    /// The name of the type inside.
    pub fn type_name(&self) -> &'static str {
        self.type_name
    }
}

/// Capsules are equal if they share their content: an export that was replaced is a change, even if alike.
impl PartialEq for Capsule {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.content, &other.content)
    }
}

impl fmt::Debug for Capsule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "capsule({:?})", self.type_name)
    }
}
