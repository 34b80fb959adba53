/**
 * Deletions that came while nobody was here. The plugin, which is root's, writes a file for each into a directory that only the
 * agent makes; a file has its name when all of it is on the disk, and the names are in the order in which they came. Who plays
 * one back removes it after that, so that a crash in between plays it again: a deletion is repeatable.
 * @module
 */
import { type Clock, unixSeconds } from "@weir/common";
import { CniRequest } from "@weir/proto/endpoint";

/** A deletion as it waits: nanoseconds and process in hexadecimal digits. */
const NAME = /^[0-9a-f]{16}-[0-9a-f]{8}$/;
/** One that is being written, or that nobody finished. */
const TEMPORARY = /^\..*\.tmp$/;
/** So old nobody writes any more, seconds. */
const ABANDONED_S = 60;
/** Largest file that is read: four variables of the plugin. */
const BYTES_MAX = 4 * 32_768 + 1024;

/** What {@link DeletionQueue} is made of. */
export interface DeletionQueueParts {
  /** Absent: there is none, e.g. where no runtime uses CNI. */
  directory: string;
  clock: Clock;
  /** Deletes. One that fails stays, and the others go on. */
  handle: (request: CniRequest) => Promise<void>;
  log: (message: string, fields?: Record<string, unknown>) => void;
}

/** Plays back what waits. */
export class DeletionQueue {
  readonly #parts: DeletionQueueParts;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(parts: DeletionQueueParts) {
    this.#parts = parts;
  }

  /** Plays back all that waits now, in order; calls have turns. @returns how many were deleted */
  play(): Promise<number> {
    const turn = this.#turn.then(() => this.#play());
    this.#turn = turn.catch(() => {});
    return turn;
  }

  async #play(): Promise<number> {
    const { directory, handle, log } = this.#parts;
    let played = 0;
    for (const name of await this.#names()) {
      const path = `${directory}/${name}`;
      try {
        const request = await read(path);
        if (request === undefined) log("Cannot read a queued deletion, it is dropped", { file: path });
        else await handle(request);
        await Deno.remove(path);
        played += request === undefined ? 0 : 1;
      } catch (error) {
        if (error instanceof Deno.errors.NotFound) continue;
        log("Cannot play back a queued deletion, it is tried again", {
          file: path,
          error: (error as Error).message,
        });
      }
    }
    return played;
  }

  /** In the order in which they came; what nobody finished goes. */
  async #names(): Promise<string[]> {
    const { directory, clock } = this.#parts;
    const names: string[] = [];
    try {
      for await (const { name } of Deno.readDir(directory)) {
        if (NAME.test(name)) names.push(name);
        if (!TEMPORARY.test(name)) continue;
        const path = `${directory}/${name}`;
        const { mtime } = await Deno.lstat(path).catch(() => ({ mtime: null }));
        if (mtime !== null && unixSeconds(clock) - mtime.getTime() / 1000 > ABANDONED_S) {
          await Deno.remove(path).catch(() => {});
        }
      }
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
    return names.sort();
  }
}

/** Undefined: it is no deletion. */
async function read(path: string): Promise<CniRequest | undefined> {
  const { isFile, size } = await Deno.lstat(path);
  if (!isFile || size > BYTES_MAX) return undefined;
  const bytes = await Deno.readFile(path);
  try {
    const request = CniRequest.decode(bytes);
    return request.containerId === "" ? undefined : request;
  } catch {
    return undefined;
  }
}
