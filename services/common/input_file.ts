/**
 * Files that people name: looked at before they are read, never read beyond their limit, never waited for without end. A
 * sparse file, a device that has no end and a pipe that nobody writes to are refused with words instead.
 * @module
 */

/** Limits of {@link readInputFileSync}. */
export interface InputFileLimits {
  /** Largest file that is read. */
  bytesMax: number;
}

/** Limits of {@link readInput}. */
export interface InputLimits extends InputFileLimits {
  /** How long a pipe may stay without a writer. Default 10 s. */
  openMsMax?: number;
  /** How long a pipe may say nothing. Default 120 s. */
  silenceMsMax?: number;
}

/** A file that is not read, with the path and the reason. */
export class InputFileError extends Error {
  override readonly name = "InputFileError";
  constructor(readonly path: string, readonly reason: string, options?: ErrorOptions) {
    super(`Cannot read ${path}: ${reason}`, options);
  }
}

const OPEN_MS_MAX = 10_000, SILENCE_MS_MAX = 120_000;
const PART_BYTES = 1 << 18;

/**
 * The bytes of a regular file.
 * @throws {InputFileError} it is not there, is no regular file, or is larger than the limit
 */
export function readInputFileSync(path: string, { bytesMax }: InputFileLimits): Uint8Array<ArrayBuffer> {
  // Before it is opened: to open a pipe is to wait for its writer.
  checkSize(path, checked(path, () => Deno.statSync(path)), bytesMax);
  using file = checked(path, () => Deno.openSync(path));
  const { size } = file.statSync();
  const parts = new Parts(path, bytesMax, size);
  while (true) {
    const count = checked(path, () => file.readSync(parts.room()));
    if (count === null || count === 0) return parts.bytes();
    parts.took(count);
  }
}

/** As {@link readInputFileSync}, as text. */
export function readInputTextSync(path: string, limits: InputFileLimits): string {
  return new TextDecoder().decode(readInputFileSync(path, limits));
}

/**
 * The bytes of a file or of a pipe, such as a shell's `<(...)`.
 * @throws {InputFileError} it is not there, is a directory or a block device, is larger than the limit, or says nothing
 */
export async function readInput(path: string, limits: InputLimits): Promise<Uint8Array<ArrayBuffer>> {
  const info = checked(path, () => Deno.statSync(path));
  if (info.isFile) return readInputFileSync(path, limits);
  if (info.isDirectory || info.isBlockDevice || info.isSocket) {
    throw new InputFileError(path, `it is a ${kindOf(info)}, expected a file or a pipe`);
  }
  const file = await within(
    Deno.open(path).catch((error) => Promise.reject(new InputFileError(path, (error as Error).message))),
    limits.openMsMax ?? OPEN_MS_MAX,
    () => new InputFileError(path, `nobody has opened the pipe for writing`),
  );
  try {
    return await readStream(path, file, limits);
  } finally {
    file.close();
  }
}

/**
 * All that a stream brings. Nothing is waited for longer than `silenceMsMax`; of a terminal for ever, for a person types.
 * @param path what messages call it
 * @throws {InputFileError}
 */
export async function readStream(
  path: string,
  source: { read(to: Uint8Array): Promise<number | null>; isTerminal?(): boolean },
  limits: InputLimits,
): Promise<Uint8Array<ArrayBuffer>> {
  const parts = new Parts(path, limits.bytesMax, 0);
  const silenceMsMax = source.isTerminal?.() ? Infinity : limits.silenceMsMax ?? SILENCE_MS_MAX;
  while (true) {
    const count = await within(
      source.read(parts.room()),
      silenceMsMax,
      () => new InputFileError(path, `nothing has come for ${silenceMsMax / 1000} s`),
    );
    if (count === null) return parts.bytes();
    parts.took(count);
  }
}

/** Bytes as they come. */
class Parts {
  #bytes: Uint8Array<ArrayBuffer>;
  #length = 0;
  readonly #path: string;
  readonly #bytesMax: number;

  constructor(path: string, bytesMax: number, expected: number) {
    this.#path = path;
    this.#bytesMax = bytesMax;
    // One more than expected, so that the end is seen without growing.
    this.#bytes = new Uint8Array(Math.min(bytesMax, Math.max(expected, PART_BYTES)) + 1);
  }
  /** Where the next bytes go; never empty. */
  room(): Uint8Array<ArrayBuffer> {
    if (this.#length === this.#bytes.length) {
      const grown = new Uint8Array(Math.min(this.#bytesMax + 1, this.#bytes.length * 2));
      grown.set(this.#bytes);
      this.#bytes = grown;
    }
    return this.#bytes.subarray(this.#length);
  }
  took(count: number): void {
    this.#length += count;
    if (this.#length > this.#bytesMax) {
      throw tooLarge(this.#path, `more than ${this.#bytesMax}`, this.#bytesMax);
    }
  }
  bytes(): Uint8Array<ArrayBuffer> {
    return this.#bytes.subarray(0, this.#length);
  }
}

function checkSize(path: string, info: Deno.FileInfo, bytesMax: number): void {
  if (!info.isFile) throw new InputFileError(path, `it is a ${kindOf(info)}, expected a regular file`);
  if (info.size > bytesMax) throw tooLarge(path, `${info.size}`, bytesMax);
}

function tooLarge(path: string, found: string, bytesMax: number): InputFileError {
  return new InputFileError(path, `it has ${found} bytes, expected at most ${bytesMax}`);
}

function kindOf(info: Deno.FileInfo): string {
  if (info.isDirectory) return "directory";
  if (info.isFifo) return "pipe";
  if (info.isSocket) return "socket";
  return "device";
}

/** The file system's errors as ours. */
function checked<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    const reason = error instanceof Deno.errors.NotFound
      ? "there is no such file or directory"
      : (error as Error).message;
    throw new InputFileError(path, reason, { cause: error });
  }
}

async function within<T>(work: Promise<T>, msMax: number, late: () => Error): Promise<T> {
  if (msMax === Infinity) return await work;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const deadline = new Promise<never>((_, reject) => timer = setTimeout(() => reject(late()), msMax));
  // What comes after the deadline is nobody's.
  work.catch(() => {});
  try {
    return await Promise.race([work, deadline]);
  } finally {
    clearTimeout(timer);
  }
}
