// Tables with one entry per instruction or function, zero at first. They are carved out of blocks that are cleared at
// once: each call of memory.fill costs a small program more than what it fills.

/* What lies before the elements of a StaticArray: its header, of which `length` reads the last word, the bytes. */
const HEAD_BYTES: usize = 24;
const BLOCK_BYTES: usize = 2048;
let at: usize = 0, end: usize = 0;

/// A table of `length` zeros.
export function newTable<T>(length: i32): StaticArray<T> {
  const bytes = <usize> length * sizeof<T>(), size = (HEAD_BYTES + bytes + 7) & ~7;
  if (size > end - at) {
    const block = max(size, BLOCK_BYTES);
    at = heap.alloc(block);
    end = at + block;
    memory.fill(at, 0, block);
  }
  const p = at + HEAD_BYTES;
  at += size;
  store<u32>(p - 4, <u32> bytes);
  return changetype<StaticArray<T>>(p);
}

/// No table yet.
export function noTable<T>(): StaticArray<T> {
  return changetype<StaticArray<T>>(0);
}
