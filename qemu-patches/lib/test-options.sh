# shellcheck shell=bash
# The options of the programs in ../tests. Source it after lab/lib/common.sh.

# What all of them have, and the scenarios that were named.
# shellcheck disable=SC2034 # for those who source this
list=no stage='' out=''
patterns=()

# read_options FLAGS VALUES ARGUMENT...: reads the arguments. FLAGS are the
# options that the program has besides, VALUES those with a value; each is given
# to the program's function take_option, with its value.
read_options() {
    local flags=" $1 " values=" --stage -o --out $2 "
    shift 2
    while (($#)); do
        case $1 in
        -h | --help) show_help "$0" && exit 0 ;;
        --list) list=yes ;;
        -*)
            if [[ $flags == *" $1 "* ]]; then
                take_option "$1"
            elif [[ $values == *" $1 "* ]]; then
                option_needs_value 2 $# "$1"
                case $1 in
                --stage) stage=$(readlink -e "$2") || die 2 "there is no stage $2" ;;
                -o | --out) out=$2 ;;
                *) take_option "$1" "$2" ;;
                esac
                shift
            else
                die 2 "unknown option $1 (see --help)"
            fi
            ;;
        *) patterns+=("$1") ;;
        esac
        shift
    done
}
