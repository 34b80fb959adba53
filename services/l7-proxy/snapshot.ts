/**
 * Objects as files of a directory, so that a proxy that starts anew judges at once, whoever else is away. A file appears whole, and one
 * that cannot be read is set aside: what it was for is not known then, which lets nothing through.
 * @module
 */
import { ProblemError } from "@weir/common";
import type { Init, Message } from "@weir/proto";

/** File names are at most 255 bytes on Linux. */
const NAME_BYTES_MAX = 240;
const SUFFIX = ".bin";

/** Files of one kind of objects. */
export class Snapshot<T> {
  readonly #directory: string;
  readonly #message: Message<T>;

  /** @param directory made when absent; "" keeps nothing */
  constructor(directory: string, message: Message<T>) {
    this.#directory = directory;
    this.#message = message;
    if (directory !== "") Deno.mkdirSync(directory, { recursive: true, mode: 0o700 });
  }

  /** All objects by name, and the files that could not be read. */
  load(): { objects: [name: string, value: T][]; broken: string[] } {
    const objects: [string, T][] = [], broken: string[] = [];
    if (this.#directory === "") return { objects, broken };
    for (const { name } of Deno.readDirSync(this.#directory)) {
      if (!name.endsWith(SUFFIX)) continue;
      const path = `${this.#directory}/${name}`;
      try {
        const value = this.#message.decode(Deno.readFileSync(path));
        objects.push([decodeURIComponent(name.slice(0, -SUFFIX.length)), value]);
      } catch {
        broken.push(path);
        try {
          Deno.renameSync(path, `${path}.broken`);
        } catch {
          // The next start finds it again.
        }
      }
    }
    return { objects, broken };
  }

  /** Writes or replaces; it is on the disk when this returns. @throws {ProblemError} SNAPSHOT_FAILED */
  save(name: string, value: T): void {
    if (this.#directory === "") return;
    const path = this.#path(name), temporary = `${path}.tmp`;
    try {
      const file = Deno.openSync(temporary, { write: true, create: true, truncate: true, mode: 0o600 });
      try {
        const bytes = this.#message.encode(value as Init<T>);
        for (let at = 0; at < bytes.length;) at += file.writeSync(bytes.subarray(at));
        file.syncDataSync();
      } finally {
        file.close();
      }
      Deno.renameSync(temporary, path);
    } catch (cause) {
      throw new ProblemError("SNAPSHOT_FAILED", {
        status: 507,
        detail: `Cannot keep ${name}: ${(cause as Error).message}`,
        expected: `a directory with room: ${this.#directory}`,
        action: "Free space there; what was in force before stays",
        cause,
      });
    }
  }

  /** Repeatable. */
  remove(name: string): void {
    if (this.#directory === "") return;
    try {
      Deno.removeSync(this.#path(name));
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }

  #path(name: string): string {
    const file = encodeURIComponent(name);
    if (file.length > NAME_BYTES_MAX) {
      throw new ProblemError("INVALID_ARGUMENT", {
        status: 400,
        detail: `Cannot keep ${name}: its name is too long for a file`,
        found: `${file.length} bytes`,
        expected: `at most ${NAME_BYTES_MAX}`,
      });
    }
    return `${this.#directory}/${file}${SUFFIX}`;
  }
}
