//! The running average of the parameters in their place, for as long as somebody looks at it.

use super::{Session, Training};

impl Session {
    /// Does something with the running average of the parameters in their place, where the optimiser makes one; with the
    /// parameters themselves where it does not.
    ///
    /// # Panics
    /// When `work` trains, or asks what a training remembers: steps go on from the parameters.
    pub fn with_average<T>(&mut self, work: impl FnOnce(&mut Session) -> T) -> T {
        self.assert_not_averaged();
        self.swap_average();
        let done = work(self);
        self.swap_average();
        done
    }

    pub(super) fn assert_not_averaged(&self) {
        assert!(!self.is_averaged, "the running average stands in the place of the parameters");
    }

    fn swap_average(&mut self) {
        if let Some(average) = self.training.as_mut().and_then(Training::average_buffer) {
            std::mem::swap(average, self.parameters.buffer_mut());
            self.packed_for = None;
            self.is_averaged = !self.is_averaged;
        }
    }
}
