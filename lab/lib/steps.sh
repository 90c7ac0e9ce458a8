# shellcheck shell=bash
# The steps that build the lab, and when each of them has to run.
#
# Every step is one script, setup/NAME.sh, and makes one directory, NAME, in
# the directory of the kernel package version. The script fills a temporary
# directory, which is renamed when the script has succeeded: a directory that
# exists is complete. Its file .stamp holds a hash of everything the step
# depends on, so that an edited script makes its own step run again, and those
# that use its result, and no others. A step runs only when its result is
# wanted: the downloaded packages may be deleted once the rest is built.

# Steps whose result each step uses.
declare -A STEP_DEPS=(
    [debs]=""
    [busybox]=""
    [image]="debs"
    [headers]="debs"
    [sources]="debs"
    [modules-stock]="headers sources"
    [modules-iommufd]="headers sources"
    [driver-stock]="headers"
    [driver-iommufd]="headers modules-iommufd"
    [kernel-mock]="debs"
    [driver-mock]="kernel-mock"
    [initramfs-mock]="kernel-mock driver-mock busybox"
    [initramfs-stock]="image modules-stock driver-stock busybox"
    [initramfs-iommufd]="image modules-iommufd driver-iommufd busybox"
    [initramfs-own]="busybox"
)

# Files that each step reads, besides what other steps made; patterns are
# expanded when they are read.
declare -A STEP_FILES=(
    [debs]="setup/debs.sh"
    [busybox]="setup/busybox.sh"
    [image]="setup/image.sh"
    [headers]="setup/headers.sh"
    [sources]="setup/sources.sh"
    [modules-stock]="setup/modules-stock.sh lib/kbuild.sh"
    [modules-iommufd]="setup/modules-iommufd.sh lib/kbuild.sh modules/Kbuild modules/drivers/iommu/iommufd/Kbuild"
    [driver-stock]="setup/driver.sh lib/kbuild.sh driver/Kbuild driver/*.[ch]"
    [driver-iommufd]="setup/driver.sh lib/kbuild.sh driver/Kbuild driver/*.[ch]"
    [kernel-mock]="setup/kernel-mock.sh setup/kernel-mock.config"
    [driver-mock]="setup/driver.sh lib/kbuild.sh driver/Kbuild driver/*.[ch]"
    [initramfs-mock]="setup/initramfs.sh guest/init guest/lab-mdev"
    [initramfs-stock]="setup/initramfs.sh guest/init guest/lab-mdev"
    [initramfs-iommufd]="setup/initramfs.sh guest/init guest/lab-mdev"
    [initramfs-own]="setup/initramfs.sh guest/init guest/lab-mdev"
)

# The script of a step. The steps of the driver and of the initramfs differ
# only in the kernel.
step_script() {
    case $1 in
    driver-*) echo "$LAB_HOME/setup/driver.sh" ;;
    initramfs-*) echo "$LAB_HOME/setup/initramfs.sh" ;;
    *) echo "$LAB_HOME/setup/$1.sh" ;;
    esac
}

declare -A STEP_HASHES=()

# step_hash VERSION STEP: sets STEP_HASHES[STEP].
step_hash() {
    local version=$1 step=$2 dep
    [[ -z ${STEP_HASHES[$step]:-} ]] || return 0
    for dep in ${STEP_DEPS[$step]}; do step_hash "$version" "$dep"; done
    STEP_HASHES[$step]=$(
        {
            echo "$version $step"
            for dep in ${STEP_DEPS[$step]}; do echo "${STEP_HASHES[$dep]}"; done
            cd "$LAB_HOME" || exit
            # shellcheck disable=SC2086 # a list of names without spaces
            cat ${STEP_FILES[$step]}
        } | sha256sum | cut -d' ' -f1
    )
}

# step_is_done DIR STEP: is the step's result in DIR there and up to date?
step_is_done() {
    local dir=$1 step=$2
    [[ -f $dir/$step/.stamp ]] || return 1
    step_hash "$(basename "$dir")" "$step"
    [[ $(<"$dir/$step/.stamp") == "${STEP_HASHES[$step]}" ]]
}

# The steps a kernel of the lab needs to boot.
steps_to_boot() {
    case $1 in
    stock | iommufd) echo "image initramfs-$1" ;;
    mock) echo "kernel-mock initramfs-mock" ;;
    *) echo "initramfs-own" ;;
    esac
}

# lab_is_ready DIR KERNEL
lab_is_ready() {
    local step
    for step in $(steps_to_boot "$2"); do
        step_is_done "$1" "$step" || return 1
    done
}

# lab_image DIR KERNEL: the image of a kernel that the lab has made.
lab_image() {
    case $2 in
    mock) echo "$1/kernel-mock/bzImage" ;;
    *) echo "$1/image/vmlinuz" ;;
    esac
}
