//! The shell's promises, in paused time: nothing here sleeps.
