//! What a call through the C ABI costs: a cached getter, and the guard around a function that does nothing. The functions are
//! those of the shared library (VFIOMIG_BENCH_SO, set by `make bench`), called through the dynamic linker as a VMM does.

use criterion::{Criterion, criterion_group, criterion_main};
use std::ffi::{CString, c_char, c_int, c_void};
use std::hint::black_box;
use std::ptr::{null, null_mut};
use vfiomig::ffi::device_data::{vfiomig_device_info, vfiomig_device_options};
use vfiomig::transport::ops::Ops;

/// Answers the probe: v2 with STOP_COPY only, in RUNNING.
unsafe extern "C" fn feature(_opaque: *mut c_void, feature: *mut c_void, _argsz: u32) -> c_int {
    let words = feature.cast::<u32>();
    // SAFETY: the library gives a whole vfio_device_feature, aligned, with 8 bytes of payload for both requests.
    unsafe {
        match words.add(1).read() {
            0x1_0001 => words.cast::<u64>().add(1).write(1),
            0x1_0002 => words.add(2).write(2),
            _ => return -libc::ENOTTY,
        }
    }
    0
}

/// The call that any call is compared with.
extern "C" fn nothing() -> u32 {
    black_box(7)
}

fn symbol(library: *mut c_void, name: &str) -> *mut c_void {
    let c_name = CString::new(name).expect("no zero byte");
    // SAFETY: a live handle of dlopen and a C string.
    let symbol = unsafe { libc::dlsym(library, c_name.as_ptr()) };
    assert!(!symbol.is_null(), "{name} is missing");
    symbol
}

fn calls(criterion: &mut Criterion) {
    let path = std::env::var("VFIOMIG_BENCH_SO").expect("VFIOMIG_BENCH_SO: use `make bench`");
    let path = CString::new(path).expect("no zero byte");
    // SAFETY: a C string; the library has no constructor with side effects.
    let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
    assert!(!library.is_null(), "cannot load {path:?}");

    type New = unsafe extern "C" fn(
        *const Ops,
        *mut c_void,
        *const vfiomig_device_options,
        *mut *mut c_void,
        *mut *mut c_void,
    ) -> c_int;
    type Info = unsafe extern "C" fn(*const c_void, *mut vfiomig_device_info, *mut *mut c_void) -> c_int;
    // SAFETY: the signatures are those of vfiomig.h; handles are passed as plain pointers.
    let (new, get_state, get_info, version, state_name) = unsafe {
        (
            std::mem::transmute::<*mut c_void, New>(symbol(library, "vfiomig_device_new_ops")),
            std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*const c_void) -> u32>(symbol(
                library,
                "vfiomig_device_get_state",
            )),
            std::mem::transmute::<*mut c_void, Info>(symbol(library, "vfiomig_device_get_info")),
            std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> u32>(symbol(library, "vfiomig_version")),
            std::mem::transmute::<*mut c_void, unsafe extern "C" fn(u32) -> *const c_char>(symbol(
                library,
                "vfiomig_state_name",
            )),
        )
    };
    // SAFETY: a table of NULL members but one.
    let mut ops: Ops = unsafe { std::mem::zeroed() };
    ops.argsz = size_of::<Ops>() as u32;
    ops.device_feature = Some(feature);
    let mut device = null_mut();
    // SAFETY: valid pointers; the table needs no opaque.
    let made = unsafe { new(&ops, null_mut(), null(), &mut device, null_mut()) };
    assert_eq!(made, 0);
    // SAFETY: a live handle.
    assert_eq!(unsafe { get_state(device) }, 2, "RUNNING");
    // SAFETY: integers and characters only.
    let mut info: vfiomig_device_info = unsafe { std::mem::zeroed() };
    info.argsz = size_of_val(&info) as u32;

    let mut group = criterion.benchmark_group("call");
    let plain: extern "C" fn() -> u32 = black_box(nothing);
    group.bench_function("plain function, for comparison", |b| b.iter(|| plain()));
    // SAFETY: takes nothing.
    group.bench_function("vfiomig_version (guard only)", |b| b.iter(|| unsafe { version() }));
    // SAFETY: takes any number.
    group.bench_function("vfiomig_state_name", |b| b.iter(|| unsafe { state_name(black_box(3)) }));
    // SAFETY: a live handle.
    group.bench_function("vfiomig_device_get_state", |b| b.iter(|| unsafe { get_state(black_box(device)) }));
    group.bench_function("vfiomig_device_get_info", |b| {
        // SAFETY: a live handle and a struct of its own argsz.
        b.iter(|| unsafe { get_info(black_box(device), &mut info, null_mut()) })
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(50).measurement_time(std::time::Duration::from_secs(2));
    targets = calls
}
criterion_main!(benches);
