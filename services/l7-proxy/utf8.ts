/** Texts of protocols: short names for the most part, of letters and digits. @module */

/** Up to here a text is put together in place: a decoder costs a call out of the engine, whatever the length. */
const SHORT_BYTES_MAX = 128;
const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The text that `bytes` are; undefined: they are not UTF-8. */
export function utf8Text(bytes: Uint8Array): string | undefined {
  if (bytes.length <= SHORT_BYTES_MAX && isAscii(bytes)) {
    return String.fromCharCode.apply(null, bytes as unknown as number[]);
  }
  try {
    return UTF8.decode(bytes);
  } catch {
    return undefined;
  }
}

function isAscii(bytes: Uint8Array): boolean {
  for (let at = 0; at < bytes.length; at++) if (bytes[at] >= 0x80) return false;
  return true;
}
