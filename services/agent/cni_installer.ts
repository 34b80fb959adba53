/**
 * Puts the CNI plugin, and the configuration that names it, into the directories of the container runtime. The configuration
 * says that pods may come, so it is there only once they can be taken; then both are looked after. Nothing is removed when
 * the agent stops: the next one goes on, and deletions meanwhile are queued. `weir uninstall` removes both.
 * @module
 */
import { type Clock, errorText, type Health, type Logger } from "@weir/common";
import { CNI_CONFIG_FILE, CNI_PLUGIN, type CniRecord, cniRecordPath } from "@weir/common/cni-record";
import { ROOT } from "./bundle.ts";
import { cniDeletionsOf, cniSocketOf, type Layout } from "./layout.ts";

/** The plugin as it was built. */
const BUILT = `${ROOT}.build/cni/${CNI_PLUGIN}`;
/** How often it is asked whether pods can be taken, and how often it is looked whether all is still there, milliseconds. */
const ASK_MS = 1_000, LOOK_MS = 10_000;

/** What {@link CniInstaller} is made of. */
export interface CniInstallerParts {
  layout: Layout;
  /** Directory of the runtime's network configurations, such as /etc/cni/net.d. */
  configDirectory: string;
  /** Directory of its plugins, such as /opt/cni/bin. */
  pluginDirectory: string;
  /** Why pods cannot be taken yet; undefined: they can. */
  ask: () => Promise<string | undefined>;
  clock: Clock;
  health: Health;
  log: Logger;
  /** The plugin; default: the one that was built with the agent. */
  built?: string;
}

/** Runs in the background, see `run()`. */
export class CniInstaller {
  readonly #parts: CniInstallerParts;
  readonly #record: CniRecord;

  constructor(parts: CniInstallerParts) {
    this.#parts = parts;
    this.#record = {
      config: `${parts.configDirectory}/${CNI_CONFIG_FILE}`,
      plugin: `${parts.pluginDirectory}/${CNI_PLUGIN}`,
    };
  }

  /** Installs, and keeps it so, until `signal` aborts. Failures are a condition of readiness and are tried again. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, health, log } = this.#parts;
    let told = "";
    while (!signal.aborted) {
      let waits: string | undefined;
      try {
        waits = await this.step();
      } catch (error) {
        waits = errorText(error);
        if (waits !== told) log.warn("Cannot install the CNI plugin, it is tried again", { error: waits });
      }
      told = waits ?? "";
      if (waits === undefined) health.ok("cni", this.#record.config);
      else health.waitFor("cni", waits);
      await clock.sleep(waits === undefined ? LOOK_MS : ASK_MS, signal);
    }
  }

  /** Does what can be done now. @returns what it waits for; undefined: all is there */
  async step(): Promise<string | undefined> {
    const { layout, ask, built = BUILT } = this.#parts, { config, plugin } = this.#record;
    await put(cniRecordPath(layout.state), new TextEncoder().encode(JSON.stringify(this.#record)), 0o644);
    await put(plugin, await Deno.readFile(built), 0o755);
    // Once there it stays: a node whose control plane is away for a while keeps its pods.
    const text = new TextEncoder().encode(cniConfigText(layout));
    if (!await isSame(config, text)) {
      const why = await ask();
      if (why !== undefined) return why;
      await put(config, text, 0o644);
      this.#parts.log.info("The container runtime may bring pods", { config, plugin });
    }
    return undefined;
  }
}

/** The network configuration. Runtimes that know 1.1.0 take the newest of `cniVersions`; the others know only 1.0.0. */
export function cniConfigText(layout: Layout): string {
  const weir = { type: CNI_PLUGIN, socket: cniSocketOf(layout), deletions: cniDeletionsOf(layout) };
  const list = { cniVersion: "1.0.0", cniVersions: ["1.0.0", "1.1.0"], name: "weir", plugins: [weir] };
  return `${JSON.stringify(list, null, 2)}\n`;
}

async function isSame(path: string, bytes: Uint8Array): Promise<boolean> {
  const found = await Deno.readFile(path).catch(() => undefined);
  return found !== undefined && found.length === bytes.length && found.every((byte, i) => byte === bytes[i]);
}

/** Writes what differs: beside it, for good, and then in its place. A program that runs stays the one that it is. */
async function put(path: string, bytes: Uint8Array, mode: number): Promise<void> {
  if (await isSame(path, bytes)) return;
  const directory = path.slice(0, path.lastIndexOf("/"));
  await Deno.mkdir(directory, { recursive: true });
  // Runtimes take no file whose name has another ending.
  const temporary = `${directory}/.weir-cni-${Deno.pid}.tmp`;
  try {
    using file = await Deno.open(temporary, { write: true, create: true, truncate: true, mode });
    for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
    await Deno.chmod(temporary, mode);
    await file.sync();
    await Deno.rename(temporary, path);
  } catch (error) {
    await Deno.remove(temporary).catch(() => {});
    throw error;
  }
  using there = await Deno.open(directory, { read: true });
  await there.sync();
}
