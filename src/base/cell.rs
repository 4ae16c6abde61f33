//! Publish and view: one writer publishes a whole value, many readers see it whole or not at all.

use std::ops::Deref;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

/// The writing end. Not `Clone`: a value has one publisher.
#[derive(Debug)]
pub struct Publisher<T>(Arc<ArcSwap<T>>);

/// The reading end: cheap to clone, wait-free to read.
#[derive(Debug)]
pub struct View<T>(Arc<ArcSwap<T>>);

/// A value that is read while it may be replaced; what was read stays as it was.
pub struct Seen<T>(Guard<Arc<T>>);

/// A cell that begins with `first`.
pub fn publish_and_view<T>(first: T) -> (Publisher<T>, View<T>) {
    let cell = Arc::new(ArcSwap::from_pointee(first));
    (Publisher(Arc::clone(&cell)), View(cell))
}

impl<T> Publisher<T> {
    /// Replaces the value for all views at once.
    pub fn publish(&self, next: T) {
        self.0.store(Arc::new(next));
    }

    /// Replaces the value by one that is shared already.
    pub fn publish_shared(&self, next: Arc<T>) {
        self.0.store(next);
    }

    /// One more view of this cell.
    pub fn view(&self) -> View<T> {
        View(Arc::clone(&self.0))
    }

    /// The value as last published.
    pub fn current(&self) -> Arc<T> {
        self.0.load_full()
    }
}

impl<T> View<T> {
    /// The value now, for a short look (no reference count is touched).
    pub fn look(&self) -> Seen<T> {
        Seen(self.0.load())
    }

    /// The value now, to keep.
    pub fn take(&self) -> Arc<T> {
        self.0.load_full()
    }
}

impl<T: Default> Default for View<T> {
    /// Of a value that nobody will ever replace.
    fn default() -> Self {
        View(Arc::new(ArcSwap::from_pointee(T::default())))
    }
}

impl<T> Clone for View<T> {
    fn clone(&self) -> Self {
        View(Arc::clone(&self.0))
    }
}

impl<T> Deref for Seen<T> {
    type Target = Arc<T>;

    fn deref(&self) -> &Arc<T> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_sees_what_was_published_last_and_keeps_what_it_took() {
        let (publisher, view) = publish_and_view(1);
        let kept = view.take();
        publisher.publish(2);
        assert_eq!((*kept, **view.look()), (1, 2));
    }
}
