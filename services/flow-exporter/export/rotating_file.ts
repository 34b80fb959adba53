/**
 * A file of lines that is put aside when it is full, as lumberjack does it for Hubble:
 *
 *     events.log   events-2026-11-29T00-43-01.123.log   events-2026-11-28T22-10-40.001.log.gz   ...
 *
 * Others may move, remove or truncate it (logrotate, with or without `copytruncate`): each append looks whether the path still
 * leads to the open file, and opens a new one if not. Only whole lines stay: what a full disk cut is taken back.
 * @module
 */
import { errorText } from "@weir/common/log";

/** Options of {@link RotatingFile}. */
export interface RotatingFileOptions {
  /** Absolute. */
  readonly path: string;
  /** A file is put aside before it is larger. */
  readonly bytesMax: number;
  readonly backupsMax: number;
  readonly compress: boolean;
  readonly nowMs?: () => number;
  /** Told what went wrong with files that were put aside. */
  readonly onError?: (what: string) => void;
}

const NEWLINE = 10;
const PART = ".gz.part";

/** Appends lines; one caller at a time. */
export class RotatingFile {
  #file: Deno.FsFile | undefined;
  #identity = "";
  #tending: Promise<void> | undefined;
  /** Stamp of the file that was put aside last. */
  #asideMs = 0;
  /** Something was put aside since the last look. */
  #isUntended = false;
  readonly #options: RotatingFileOptions;
  readonly #directory: string;
  readonly #stem: string;
  readonly #extension: string;

  constructor(options: RotatingFileOptions) {
    this.#options = options;
    const slash = options.path.lastIndexOf("/"), name = options.path.slice(slash + 1);
    const dot = name.lastIndexOf(".");
    this.#directory = options.path.slice(0, slash) || "/";
    this.#stem = dot > 0 ? name.slice(0, dot) : name;
    this.#extension = dot > 0 ? name.slice(dot) : "";
  }

  /**
   * Appends whole lines: all, or none when it throws, so that the caller may try again.
   * @throws {Error} the file system's, with what to do
   */
  async append(lines: Uint8Array): Promise<void> {
    let size = await this.#open();
    if (size > 0 && size + lines.length > this.#options.bytesMax) {
      await this.#putAside();
      size = await this.#open();
    }
    const file = this.#file!;
    try {
      for (let at = 0; at < lines.length;) at += await file.write(lines.subarray(at));
    } catch (error) {
      await file.truncate(size).catch(() => {});
      this.#close();
      throw error;
    }
  }

  /** Resolves when nothing is done to files that were put aside. */
  async settled(): Promise<void> {
    await this.#tending;
  }

  /** Ends; what was put aside is compressed first. */
  async close(): Promise<void> {
    this.#close();
    await this.settled();
  }

  #close(): void {
    this.#file?.close();
    this.#file = undefined;
  }

  /** Opens the file if the path does not lead to the open one; gives its size. */
  async #open(): Promise<number> {
    const { path } = this.#options;
    // Not what a link leads to: what this process may write is told by paths.
    const found = await Deno.lstat(path).catch((error) => {
      if (error instanceof Deno.errors.NotFound) return undefined;
      throw error;
    });
    if (found !== undefined && !found.isFile) {
      throw new Error(`${path} is no regular file: expected a file or nothing`);
    }
    if (this.#file !== undefined && found !== undefined && identityOf(found) === this.#identity) {
      return found.size;
    }
    this.#close();
    const file = await Deno.open(path, { read: true, append: true, create: true, mode: 0o640 });
    try {
      const info = await file.stat();
      if (!info.isFile) throw new Error(`${path} is no regular file: expected a file or nothing`);
      this.#identity = identityOf(info);
      const size = info.size + await endLine(file, info.size);
      this.#file = file;
      this.#tend();
      return size;
    } catch (error) {
      file.close();
      throw error;
    }
  }

  async #putAside(): Promise<void> {
    // Never an earlier one than before: the oldest stamp is removed first, also when the clock is put back.
    const nowMs = Math.max((this.#options.nowMs ?? Date.now)(), this.#asideMs + 1);
    for (let ms = nowMs;; ms++) {
      const to = `${this.#directory}/${this.#stem}-${stampOf(ms)}${this.#extension}`;
      if (await exists(to) || await exists(`${to}.gz`)) continue;
      await Deno.rename(this.#options.path, to);
      this.#asideMs = ms;
      break;
    }
    this.#close();
  }

  /** Compresses what was put aside, and removes what is too much; one at a time, behind the caller's back. */
  #tend(): void {
    this.#isUntended = true;
    this.#tending ??= this.#tendAll();
  }

  async #tendAll(): Promise<void> {
    while (this.#isUntended) {
      this.#isUntended = false;
      await this.#tendOnce().catch((error) => this.#options.onError?.(errorText(error)));
    }
    // In the same turn as the last look at the flag.
    this.#tending = undefined;
  }

  async #tendOnce(): Promise<void> {
    const { backupsMax, compress } = this.#options;
    const names: string[] = [];
    for await (const { name, isFile } of Deno.readDir(this.#directory)) {
      if (!isFile || !name.startsWith(`${this.#stem}-`)) continue;
      if (name.endsWith(PART) && this.#isBackup(name.slice(0, -PART.length))) {
        await Deno.remove(`${this.#directory}/${name}`);
      } else if (this.#isBackup(name.replace(/\.gz$/, ""))) names.push(name);
    }
    // Stamps sort as times.
    names.sort().reverse();
    for (const name of names.slice(backupsMax)) await Deno.remove(`${this.#directory}/${name}`);
    if (!compress) return;
    for (const name of names.slice(0, backupsMax)) {
      if (!name.endsWith(".gz")) await compressFile(`${this.#directory}/${name}`);
    }
  }

  #isBackup(name: string): boolean {
    if (!name.startsWith(`${this.#stem}-`) || !name.endsWith(this.#extension)) return false;
    return STAMP.test(name.slice(this.#stem.length + 1, name.length - this.#extension.length));
  }
}

const STAMP = /^\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}$/;

/** "2026-11-29T00-43-01.123", in UTC. */
function stampOf(ms: number): string {
  return new Date(ms).toISOString().replaceAll(":", "-").slice(0, -1);
}

const identityOf = ({ dev, ino }: Deno.FileInfo) => `${dev} ${ino}`;

/** Ends a line that a process before us left half written; gives the bytes that were added. */
async function endLine(file: Deno.FsFile, size: number): Promise<number> {
  if (size === 0) return 0;
  const last = new Uint8Array(1);
  await file.seek(size - 1, Deno.SeekMode.Start);
  await file.read(last);
  return last[0] === NEWLINE ? 0 : await file.write(new Uint8Array([NEWLINE]));
}

async function compressFile(path: string): Promise<void> {
  const part = `${path}${PART}`;
  try {
    const source = await Deno.open(path);
    const target = await Deno.open(part, { write: true, create: true, truncate: true, mode: 0o640 });
    await source.readable.pipeThrough(new CompressionStream("gzip")).pipeTo(target.writable);
    await Deno.rename(part, `${path}.gz`);
  } catch (error) {
    await Deno.remove(part).catch(() => {});
    throw new Error(`cannot compress ${path}`, { cause: error });
  }
  await Deno.remove(path);
}

async function exists(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, () => false);
}
