#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kit::targets::wire::run(data));
