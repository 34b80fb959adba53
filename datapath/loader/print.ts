/** What libbpf prints, captured instead of going to stderr. @module */
import { libbpf, libc } from "./library.ts";

/** Most characters that are kept of one capture; the end of a verifier's log is what tells. */
const CAPTURE_CHARS_MAX = 1 << 20;
/** One message of libbpf: a verifier's log of at most 16 MiB with a line around it. Touched only as far as it is used. */
const MESSAGE_BYTES_MAX = 17 << 20;

let installed: Deno.UnsafeCallback<{ parameters: ["i32", "pointer", "pointer"]; result: "i32" }> | undefined;
let captured: string[] | undefined;

/** Runs `work` and answers with its result and all that libbpf printed meanwhile. Not nested. */
export function capturePrint<T>(work: () => T): { result: T; log: string } {
  install();
  const parts: string[] = captured = [];
  try {
    const result = work();
    return { result, log: parts.join("").slice(-CAPTURE_CHARS_MAX) };
  } finally {
    captured = undefined;
  }
}

function install(): void {
  if (installed !== undefined) return;
  const decoder = new TextDecoder();
  const bytes = new Uint8Array(MESSAGE_BYTES_MAX);
  installed = new Deno.UnsafeCallback(
    { parameters: ["i32", "pointer", "pointer"], result: "i32" } as const,
    (level, format, args) => {
      if (captured === undefined || level > 1) return 0; // 0 warn, 1 info, 2 debug
      // A va_list can be read once only, so the buffer must fit the first time.
      const size = libc().vsnprintf(bytes, BigInt(bytes.length), format, args);
      const end = Math.min(Math.max(size, 0), bytes.length - 1);
      captured.push(decoder.decode(bytes.subarray(Math.max(0, end - CAPTURE_CHARS_MAX), end)));
      return size;
    },
  );
  libbpf().libbpf_set_print(installed.pointer);
}
