/**
 * Reads one line of memcached's text protocol: which command, which keys, and what follows it. What memcached could read otherwise than this
 * reader is refused: after a line that memcached refuses it may take the data behind it for commands.
 * @module
 */

/** A line that is no command that is known, or one that is read differently by different servers. */
export class MemcacheCommandError extends Error {
  override name = "MemcacheCommandError";
}

/** One command. */
export interface MemcacheCommand {
  /** "get", "set". */
  readonly command: string;
  readonly keys: readonly string[];
  /** Bytes of the data behind the line, without their CR LF; undefined: none comes. */
  readonly dataBytes: number | undefined;
  /** The client awaits no answer, whatever becomes of it. */
  readonly noreply: boolean;
}

/** Bytes of a key, as memcached has it. */
export const MEMCACHE_KEY_BYTES_MAX = 250;
/** Bytes of one item; a server's own limit is 1 MiB unless told otherwise, and 1 GiB at most. */
export const MEMCACHE_DATA_BYTES_MAX = 1024 * 1024 * 1024;
/** Flags of a meta command: memcached refuses `ms` with 20 of them and takes its data for a command. */
const META_FLAGS_MAX = 12;
/** Bytes of a line but for `get` and `gets`, as memcached has it. */
const LINE_BYTES_MAX = 2048;

type Form =
  /** Keys from this word on. */
  | { readonly keysFrom: number }
  /** One key; `data`: where the number of bytes is, then `words` of a line without `noreply`. */
  | { readonly key: 1; readonly data?: number; readonly words?: number; readonly meta?: boolean }
  | { readonly key?: undefined };

const STORE: Form = { key: 1, data: 4, words: 5 };
const META: Form = { key: 1, meta: true };
const NO_KEY: Form = {};
const FORMS: Readonly<Record<string, Form>> = {
  get: { keysFrom: 1 },
  gets: { keysFrom: 1 },
  gat: { keysFrom: 2 },
  gats: { keysFrom: 2 },
  set: STORE,
  add: STORE,
  replace: STORE,
  append: STORE,
  prepend: STORE,
  cas: { key: 1, data: 4, words: 6 },
  incr: { key: 1 },
  decr: { key: 1 },
  delete: { key: 1 },
  touch: { key: 1 },
  mg: META,
  md: META,
  ma: META,
  me: META,
  ms: { key: 1, data: 2, meta: true },
  mn: NO_KEY,
  stats: NO_KEY,
  version: NO_KEY,
  verbosity: NO_KEY,
  flush_all: NO_KEY,
  cache_memlimit: NO_KEY,
  slabs: NO_KEY,
  lru: NO_KEY,
  lru_crawler: NO_KEY,
  watch: NO_KEY,
  misbehave: NO_KEY,
  quit: NO_KEY,
};

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** The text of a key. Bytes that are no UTF-8 become U+FFFD, which rules do not have. */
export function memcacheKey(bytes: Uint8Array): string {
  return decoder.decode(bytes);
}

/** @param line without its end. @throws {MemcacheCommandError} */
export function readMemcacheCommand(line: Uint8Array): MemcacheCommand {
  const words = wordsOf(line), command = memcacheKey(words[0]);
  const form = Object.hasOwn(FORMS, command) ? FORMS[command] : undefined;
  if (form === undefined) {
    throw new MemcacheCommandError(`${JSON.stringify(command.slice(0, 40))} is no command that is known`);
  }
  const many = "keysFrom" in form && form.keysFrom === 1;
  if (line.length > LINE_BYTES_MAX && !many) {
    throw new MemcacheCommandError(
      `${command} in a line of ${line.length} bytes, at most ${LINE_BYTES_MAX} are read`,
    );
  }
  const noreply = !("keysFrom" in form) && memcacheKey(words[words.length - 1]) === "noreply";
  if ("keysFrom" in form) {
    const keys = words.slice(form.keysFrom);
    if (keys.length === 0) throw new MemcacheCommandError(`${command} without a key`);
    return { command, keys: keys.map((key) => keyOf(key)), dataBytes: undefined, noreply };
  }
  if (form.key === undefined) return { command, keys: [], dataBytes: undefined, noreply };
  if (words.length < 2) throw new MemcacheCommandError(`${command} without a key`);
  const dataBytes = form.data === undefined ? undefined : dataBytesOf(command, words, form);
  const keys = form.meta ? metaKeys(command, words) : [keyOf(words[1])];
  return { command, keys, dataBytes, noreply: noreply && form.meta !== true };
}

/** Words between blanks, as memcached parts them. */
function wordsOf(line: Uint8Array): Uint8Array[] {
  const words: Uint8Array[] = [];
  let from = 0;
  for (let at = 0; at <= line.length; at++) {
    const byte = at < line.length ? line[at] : 0x20;
    if (byte < 0x20 || byte === 0x7f) {
      throw new MemcacheCommandError(`byte 0x${byte.toString(16).padStart(2, "0")} in a command's line`);
    }
    if (byte !== 0x20) continue;
    if (at > from) words.push(line.subarray(from, at));
    from = at + 1;
  }
  if (words.length === 0 || line[0] === 0x20) {
    throw new MemcacheCommandError("a line does not begin with a command");
  }
  return words;
}

function keyOf(word: Uint8Array): string {
  if (word.length > MEMCACHE_KEY_BYTES_MAX) {
    throw new MemcacheCommandError(
      `a key of ${word.length} bytes, at most ${MEMCACHE_KEY_BYTES_MAX} are one`,
    );
  }
  return memcacheKey(word);
}

/** Everything that memcached checks before it knows that data comes: where it refuses one of these, it reads the data as commands. */
function dataBytesOf(
  command: string,
  words: readonly Uint8Array[],
  { data = 0, words: count }: { data?: number; words?: number },
): number {
  const texts = words.map(memcacheKey), bytes = texts[data] ?? "";
  if (!isWhole(bytes, MEMCACHE_DATA_BYTES_MAX)) {
    throw new MemcacheCommandError(
      `${command} with data of ${JSON.stringify(bytes)} bytes, want 0 to ${MEMCACHE_DATA_BYTES_MAX}`,
    );
  }
  if (count === undefined) return Number(bytes);
  const [, , flags, expires, , unique] = texts;
  if (!isWhole(flags, 2 ** 32 - 1) || !isWhole(expires.replace(/^-/, ""), 2 ** 31 - 1)) {
    throw new MemcacheCommandError(
      `${command} with flags ${flags} and time ${expires}, want whole numbers of 32 bits`,
    );
  }
  if (count === 6 && !isWhole(unique ?? "", 2 ** 64)) {
    throw new MemcacheCommandError(`cas without its number`);
  }
  const more = texts.slice(count);
  if (more.length > 1 || more.length === 1 && more[0] !== "noreply") {
    throw new MemcacheCommandError(`${command} with ${more.join(" ")} at its end, want noreply or nothing`);
  }
  return Number(bytes);
}

function isWhole(text: string, max: number): boolean {
  return /^[0-9]{1,20}$/.test(text) && Number(text) <= max;
}

/** With the flag `b` the key is base64 of the real one. */
function metaKeys(command: string, words: readonly Uint8Array[]): string[] {
  const flags = words.slice(command === "ms" ? 3 : 2), key = keyOf(words[1]);
  if (flags.length > META_FLAGS_MAX) {
    throw new MemcacheCommandError(
      `${command} with ${flags.length} flags, at most ${META_FLAGS_MAX} are read`,
    );
  }
  if (!flags.some(([first]) => first === 0x62)) return [key];
  let real: Uint8Array;
  try {
    real = Uint8Array.fromBase64(key, { lastChunkHandling: "strict" });
  } catch {
    throw new MemcacheCommandError(`${JSON.stringify(key)} is no base64, which the flag b says`);
  }
  // Versions differ in whether `me` knows the flag.
  return command === "me" ? [key, keyOf(real)] : [keyOf(real)];
}
