/**
 * A sysdump's archive: a gzipped tar of ordinary files. What is read may be of anybody: whatever this program would not have
 * written is refused, and nothing of it is unpacked onto the disk.
 *
 * A tar is blocks of 512 bytes: for each file a header, its bytes, zeros up to the next block; two blocks of zeros at the end.
 *
 *     0     name        124   size, octal     148   checksum     156   kind: "0" is a file     257   "ustar"
 *
 * @module
 */
const BLOCK = 512;
const NAME_LENGTH_MAX = 100;
/** Names that are written and read: no path that leaves its directory. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*(\/[A-Za-z0-9][A-Za-z0-9._-]*)*$/;

/** Limits of an archive. */
export const ARCHIVE_LIMITS = { filesMax: 20_000, fileBytesMax: 64 << 20, bytesMax: 512 << 20 };

/** What an archive holds, by name. */
export type ArchiveFiles = ReadonlyMap<string, Uint8Array>;

/** An archive that this program did not write so, or not wholly. */
export class ArchiveError extends Error {
  override readonly name = "ArchiveError";
}

/** Whether a file may have this name. */
export function isArchiveName(name: string): boolean {
  return name.length <= NAME_LENGTH_MAX && NAME.test(name);
}

/** The archive as a stream of bytes. @throws {ArchiveError} for a name that is none */
export function packArchive(files: ArchiveFiles, unixS: number): ReadableStream<Uint8Array<ArrayBuffer>> {
  const blocks = function* (): Generator<Uint8Array<ArrayBuffer>> {
    for (const [name, bytes] of files) {
      if (!isArchiveName(name)) {
        throw new ArchiveError(`Cannot name a file of an archive ${JSON.stringify(name)}`);
      }
      yield header(name, bytes.length, unixS);
      yield bytes as Uint8Array<ArrayBuffer>;
      yield new Uint8Array((BLOCK - bytes.length % BLOCK) % BLOCK);
    }
    yield new Uint8Array(2 * BLOCK);
  };
  return ReadableStream.from(blocks()).pipeThrough(new CompressionStream("gzip"));
}

function header(name: string, size: number, unixS: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(BLOCK);
  const put = (offset: number, text: string) => bytes.set(new TextEncoder().encode(text), offset);
  const octal = (value: number, digits: number) => value.toString(8).padStart(digits, "0");
  put(0, name);
  put(100, "0000600\0");
  put(108, "0000000\0");
  put(116, "0000000\0");
  put(124, `${octal(size, 11)}\0`);
  put(136, `${octal(Math.floor(unixS), 11)}\0`);
  put(148, " ".repeat(8));
  put(156, "0");
  put(257, "ustar\0" + "00");
  put(148, `${octal(checksum(bytes), 6)}\0 `);
  return bytes;
}

const checksum = (bytes: Uint8Array) => bytes.reduce((sum, byte) => sum + byte, 0);

/**
 * Reads a whole archive into memory.
 * @throws {ArchiveError} it is no archive of this kind, it is cut off, or it holds more than the limits
 */
export async function unpackArchive(
  packed: ReadableStream<Uint8Array<ArrayBuffer>>,
  limits: typeof ARCHIVE_LIMITS = ARCHIVE_LIMITS,
): Promise<Map<string, Uint8Array>> {
  const bytes = await inflate(packed, limits.bytesMax);
  const files = new Map<string, Uint8Array>();
  for (let offset = 0;;) {
    const block = bytes.subarray(offset, offset + BLOCK);
    if (block.length < BLOCK) throw new ArchiveError("it is cut off: its end is missing");
    if (block.every((byte) => byte === 0)) return files;
    const { name, size } = readHeader(block);
    if (files.has(name)) throw new ArchiveError(`it has two files ${name}`);
    if (files.size >= limits.filesMax) throw new ArchiveError(`it has more than ${limits.filesMax} files`);
    if (size > limits.fileBytesMax) {
      throw new ArchiveError(`${name} has ${size} bytes, expected at most ${limits.fileBytesMax}`);
    }
    offset += BLOCK;
    if (offset + size > bytes.length) throw new ArchiveError(`it is cut off within ${name}`);
    files.set(name, bytes.subarray(offset, offset + size));
    offset += Math.ceil(size / BLOCK) * BLOCK;
  }
}

function readHeader(block: Uint8Array): { name: string; size: number } {
  const text = (offset: number, length: number) => {
    const field = block.subarray(offset, offset + length), end = field.indexOf(0);
    return new TextDecoder().decode(end < 0 ? field : field.subarray(0, end));
  };
  const blank = block.slice();
  blank.fill(0x20, 148, 156);
  if (text(257, 5) !== "ustar" || parseInt(text(148, 8), 8) !== checksum(blank)) {
    throw new ArchiveError("it is no tar archive, or damaged");
  }
  const name = text(0, 100), kind = text(156, 1);
  if (kind !== "0") throw new ArchiveError(`${JSON.stringify(name)} is no ordinary file`);
  if (!isArchiveName(name) || text(345, 155) !== "") {
    throw new ArchiveError(
      `a file has the name ${JSON.stringify(name)}, which leaves the archive or is none of a sysdump`,
    );
  }
  const size = text(124, 12).trim();
  if (!/^[0-7]{1,11}$/.test(size)) throw new ArchiveError(`${name} has no size`);
  return { name, size: parseInt(size, 8) };
}

/** Never holds more than `bytesMax`, however little the packed bytes are. */
async function inflate(
  packed: ReadableStream<Uint8Array<ArrayBuffer>>,
  bytesMax: number,
): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const chunk of packed.pipeThrough(new DecompressionStream("gzip"))) {
      length += chunk.length;
      if (length > bytesMax) throw new ArchiveError(`it holds more than ${bytesMax} bytes`);
      chunks.push(chunk);
    }
  } catch (error) {
    if (error instanceof ArchiveError) throw error;
    throw new ArchiveError("it is not gzipped, damaged or cut off", { cause: error });
  }
  const bytes = new Uint8Array(length);
  let offset = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, offset);
    offset += chunk.length;
  }
  return bytes;
}
