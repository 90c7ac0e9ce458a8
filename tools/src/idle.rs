//! A device that is to be tried is in RUNNING. One that is not was left so by a migration: to let it run could be to let a guest run
//! twice, so it is not touched.

use crate::host::Trouble;
use crate::name::DeviceName;
use vfiomig::dialect::State;

/// Whether nothing but RUNNING is found; else why the device is left alone.
pub fn is_running(name: &DeviceName, state: State) -> Result<(), Trouble> {
    if state == State::Running {
        return Ok(());
    }
    let what = format!("{name} is in {state}, not in RUNNING: a migration has left it so, and it was not touched");
    let anew = match name {
        DeviceName::Socket(_) => "start its server anew",
        DeviceName::Mdev(_) => "remove it, and make it anew",
        DeviceName::Pci(_) | DeviceName::Cdev(_) => "reset it: write 1 into the file reset of its folder in sysfs",
    };
    Err(Trouble::new(what, format!("end that migration; if its guest has arrived elsewhere, or there is none, {anew}")))
}
