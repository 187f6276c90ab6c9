#!/bin/bash
# check_gpu_errors.sh PROGRAM MODEL.gguf
#
# What a user sees where the GPU, its memory or the cache of kernels cannot be used as asked, on a machine with a
# GPU (tests/test_cuda_host.c and test_cuda_jit.c have the same, and what cannot be arranged here, on a driver
# without one). Prints a line a case; ends with 1 where one failed. Takes about 15 s with a small model. A full disk
# is only tried where this user may mount one. Needs python3 to hold the GPU's memory.
set -u
program=$1 model=$2
folder=$(mktemp -d)
trap 'umount "$folder/full" 2>/dev/null; rm -rf "$folder"' EXIT
failed=0

# run NAME FLAGS…: exit code in $code, standard output and error in the folder.
run() {
    timeout 60 "$program" run --model "$model" --prompt "Once upon a time" --max-tokens 4 --temperature 0 --ids "$@" \
        >"$folder/out" 2>"$folder/err" </dev/null
    code=$?
}

# check NAME CODE TEXT…: the run ended so, and said each of these.
check() {
    local name=$1 expected=$2 text
    shift 2
    if [ $code -ne "$expected" ]; then
        echo "FAIL $name: exit code $code, not $expected: $(tail -n 3 "$folder/err")"
        failed=1
        return
    fi
    for text in "$@"; do
        if ! grep -qF -- "$text" "$folder/err"; then
            echo "FAIL $name: \"$text\" is not in: $(head -n 3 "$folder/err")"
            failed=1
            return
        fi
    done
    echo "pass $name: $(grep -m1 -F -- "${1:-loaded}" "$folder/err")"
}

# check_same NAME: the last run's tokens are those of the first.
check_same() {
    if cmp -s "$folder/out" "$folder/first"; then return; fi
    echo "FAIL $1: other tokens than with kernels just compiled"
    failed=1
}

cache=$folder/cache
run --jit-cache "$cache"
check "a cache folder that is made" 0
cp "$folder/out" "$folder/first"
run --jit-cache "$cache"
check "kernels from the cache" 0
check_same "kernels from the cache"

for file in "$cache"/*.cubin; do
    printf 'damaged' | dd of="$file" bs=1 seek=200 conv=notrunc status=none
done
run --jit-cache "$cache"
check "damaged files in the cache" 0 "warning" "is damaged; its kernel is compiled again"
check_same "damaged files in the cache"
run --jit-cache "$cache"
check "the same files afterwards" 0
if grep -q warning "$folder/err"; then echo "FAIL the same files afterwards: still a warning"; failed=1; fi

run --jit-cache /proc/self
check "a cache folder that takes no files" 0 "warning" "/proc/self"
check_same "a cache folder that takes no files"
echo text >"$folder/file"
run --jit-cache "$folder/file/cache"
check "a cache folder that cannot be made" 0 "warning" "cannot be made"

mkdir "$folder/full"
if mount -t tmpfs -o size=64k none "$folder/full" 2>/dev/null; then
    run --jit-cache "$folder/full"
    check "a cache folder on a full disk" 0 "warning" "$folder/full"
    check_same "a cache folder on a full disk"
else
    echo "skip a cache folder on a full disk: nothing may be mounted here"
fi

run --gpu-device 9
check "a GPU that is not there" 2 "--gpu-device 9: there is no GPU 9"
export CUDA_VISIBLE_DEVICES=
run
check "no GPU" 1 "no NVIDIA GPU was found"
unset CUDA_VISIBLE_DEVICES

# Another process takes all but so many MB: too few for a context, then for the model.
for left in 100 750; do
    coproc holder {
        exec python3 -c '
import ctypes as c, sys
cuda = c.CDLL("libcuda.so.1")
context, memory, free, total = c.c_void_p(), c.c_uint64(), c.c_size_t(), c.c_size_t()
assert cuda.cuInit(0) == 0
assert cuda.cuDevicePrimaryCtxRetain(c.byref(context), 0) == 0 and cuda.cuCtxSetCurrent(context) == 0
assert cuda.cuMemGetInfo_v2(c.byref(free), c.byref(total)) == 0
assert cuda.cuMemAlloc_v2(c.byref(memory), c.c_size_t(free.value - int(sys.argv[1]) * 10**6)) == 0
print("held", flush=True)
input()
' $left
    }
    name="memory that another process holds, but for $left MB"
    if read -r -t 30 line <&"${holder[0]}" && [ "$line" = held ]; then
        run --jit-cache "$cache"
        check "$name" 1 "$model needs" "bytes" "VRAM"
        echo >&"${holder[1]}"
    else
        echo "FAIL $name: it could not be taken"
        failed=1
    fi
    wait
done
run --jit-cache "$cache"
check "the same memory, given back" 0
exit $failed
