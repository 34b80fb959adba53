/**
 * A directory of manifests as a source: what its files say is applied, and what they no longer say is deleted. A file
 * with a fault is said and changes nothing; the others count.
 * @module
 */
import { errorText, type Health, type Logger, readInputTextSync } from "@weir/common";
import type { LoadBalancer } from "./load_balancer.ts";
import { type LbObject, manifestProblem, readManifests } from "./manifest.ts";
import { applyObjects } from "./routes.ts";

/** Largest file that is read. */
const FILE_BYTES_MAX = 16 << 20;
/** Changes of files within this time are read together. */
const SETTLE_MS = 50;
/** How often the directory is looked at when nothing tells of changes. */
const LOOK_MS = 10_000;
/** Name of the condition in /readyz?verbose. */
const CHECK = "manifests";

/** Options of {@link ManifestDirectory}. */
export interface ManifestDirectoryOptions {
  lb: LoadBalancer;
  log: Logger;
  health: Health;
}

/** The source that a directory is; begins with `start()`. */
export class ManifestDirectory {
  readonly #stop = new AbortController();
  #loop: Promise<void> = Promise.resolve();
  #watcher: Deno.FsWatcher | undefined;
  #wake = () => {};
  #said = "";

  readonly #options: ManifestDirectoryOptions;

  constructor(readonly path: string, options: ManifestDirectoryOptions) {
    this.#options = options;
  }

  start(): void {
    this.#loop = this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    this.#watcher?.close();
    this.#wake();
    await this.#loop;
  }

  /** Reads the directory and applies it. Answers the faults, by file. */
  async read(): Promise<string[]> {
    const { lb } = this.#options;
    const origin = `directory ${this.path}`;
    const faults: string[] = [];
    const named = new Set<string>(), faulty = new Set<string>();
    const names: string[] = [];
    for await (const entry of Deno.readDir(this.path)) {
      if (!entry.isDirectory && /\.(ya?ml|json)$/.test(entry.name)) names.push(entry.name);
    }
    const files: { file: string; objects: readonly LbObject[] }[] = [];
    for (const name of names.sort()) {
      const file = `${this.path}/${name}`;
      let manifests;
      try {
        manifests = readManifests(readInputTextSync(file, { bytesMax: FILE_BYTES_MAX }), { file });
      } catch (error) {
        // A pipe, or more than anybody means: the others count all the same.
        faults.push(`${file}: ${errorText(error)}`);
        faulty.add(file);
        continue;
      }
      if (manifests.faults.length > 0) {
        faults.push(manifestProblem(manifests, file).message);
        faulty.add(file);
        continue;
      }
      files.push({ file, objects: manifests.objects });
    }
    for (const { file, objects } of files) {
      try {
        await applyObjects(lb, objects, file, origin);
      } catch (error) {
        faults.push(`${file}: ${errorText(error)}`);
        faulty.add(file);
      }
      for (const { kind, name } of objects) named.add(`${kind}/${name}`);
    }
    // What a faulty file said before stays: its fault must not take services away.
    const gone = lb.sources.list().filter((source) =>
      source.origin === origin && !named.has(source.name) && !faulty.has(source.file)
    );
    const pools = faulty.size > 0
      ? []
      : lb.addressPools.list().filter((pool) =>
        pool.origin === origin && !named.has(`AddressPool/${pool.name}`)
      );
    if (gone.length + pools.length > 0) {
      await lb.change(async (change) => {
        for (const { name } of pools) await change.deletePool(name);
        for (const { kind, namespace, objectName } of gone) {
          await change.deleteObject(kind as LbObject["kind"], `${namespace}/${objectName}`);
        }
      });
    }
    return faults;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    const { clock } = this.#options.lb;
    await this.#options.lb.waitReady();
    this.#watch();
    while (!signal.aborted) {
      const woken = new AbortController();
      this.#wake = () => woken.abort();
      try {
        this.#say(await this.read());
      } catch (error) {
        this.#say([`${this.path}: ${errorText(error)}`]);
      }
      if (!signal.aborted) await clock.sleep(LOOK_MS, woken.signal);
      await clock.sleep(SETTLE_MS, signal);
    }
  }

  /** Wakes the loop on every change; without a watcher (no such directory yet) it looks by itself. */
  async #watch(): Promise<void> {
    try {
      this.#watcher = Deno.watchFs(this.path, { recursive: false });
      for await (const event of this.#watcher) if (event.kind !== "access") this.#wake();
    } catch (error) {
      this.#options.log.debug("Manifest directory is not watched", {
        path: this.path,
        error: errorText(error),
      });
    }
  }

  #say(faults: string[]): void {
    const text = faults.join("; ");
    if (text === this.#said && text !== "") return;
    this.#said = text;
    // Not ready would take all services away from the nodes for one broken file.
    this.#options.health.ok(CHECK, text === "" ? `${this.path} is applied` : text);
    for (const fault of faults) this.#options.log.error("Manifest refused", { fault });
  }
}
