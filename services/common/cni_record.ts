/**
 * What the agent has put into the directories of the container runtime: written before anything is put there, so that
 * `weir uninstall` finds it without the agent's options.
 * @module
 */

/** Paths of files that are Weir's. */
export interface CniRecord {
  /** The network configuration, in the runtime's directory of those. */
  readonly config: string;
  /** The plugin, in the runtime's directory of those. */
  readonly plugin: string;
}

/** Name of the network configuration: before those of others, for a runtime takes the first. */
export const CNI_CONFIG_FILE = "05-weir.conflist";
/** Name of the plugin. */
export const CNI_PLUGIN = "weir-cni";

/** Where the record of an instance is. */
export function cniRecordPath(stateDirectory: string): string {
  return `${stateDirectory}/cni.json`;
}

/** Undefined: nothing was put anywhere. What is no file name of ours is nobody's to remove. */
export function readCniRecord(stateDirectory: string): CniRecord | undefined {
  try {
    const { config, plugin } = JSON.parse(Deno.readTextFileSync(cniRecordPath(stateDirectory))) as CniRecord;
    return config.endsWith(`/${CNI_CONFIG_FILE}`) && plugin.endsWith(`/${CNI_PLUGIN}`)
      ? { config, plugin }
      : undefined;
  } catch {
    return undefined;
  }
}
