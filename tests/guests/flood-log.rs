//! Told to die, logs for ever.

use ron_guest::log;

test_guests::mortal!(|_| {
    for drop in 0_u64.. {
        log::info!(drop; "flood");
    }
});
