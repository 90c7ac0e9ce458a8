#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kit::targets::vfio_user::run(data));
