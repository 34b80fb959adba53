/**
 * What the flow exporter needs to export flows: the arguments, and the rights to the directories and files that the options name,
 * nothing else. Directories of Weir's own are refused: services share a user, and what keeps one from another's files is this.
 *
 * @module
 */
import { OTLP_OPTIONS, STATIC_LOG_OPTIONS } from "@weir/flow-exporter/export-options";
import { REDACTION_OPTIONS } from "@weir/flow-exporter/l7-options";
import { isPlainPath, readOtlp } from "@weir/flow-exporter/otlp-options";
import { type AgentConfig, AgentConfigError } from "./config.ts";
import { directory, type Layout } from "./layout.ts";

/** Arguments and Deno's permission flags. */
export interface ExportAccess {
  readonly args: readonly string[];
  readonly permissions: readonly string[];
  /** Whom it speaks to. */
  readonly peers: readonly string[];
  readonly secrets?: Readonly<Record<string, string>>;
}

/** The access of this configuration; none where nothing is exported. @throws {AgentConfigError} a directory of Weir's own */
export function exportAccess(config: AgentConfig, layout: Layout): ExportAccess {
  const { hubbleFlowlogsConfigPath: configPath, hubbleFlowlogsDirectory } = config;
  const directories = exportDirectories(config, layout), otlp = readOtlp(config);
  const permissions = [
    ...directories.map((path) => `--allow-write=${path}`),
    ...directories.map((path) => `--allow-read=${path}`),
    ...(configPath === "" ? [] : [`--allow-read=${configPath}`]),
    ...(otlp === undefined || otlp.caFile === "" ? [] : [`--allow-read=${otlp.caFile}`]),
  ];
  const args = [
    ...(config.hubbleExportFilePath === "" ? [] : flagsOf(STATIC_LOG_OPTIONS, config)),
    ...(configPath === "" ? [] : [
      `--hubble-flowlogs-config-path=${configPath}`,
      `--hubble-flowlogs-directory=${hubbleFlowlogsDirectory}`,
    ]),
    ...(otlp === undefined ? [] : flagsOf(OTLP_OPTIONS, config)),
  ];
  return {
    args,
    permissions,
    peers: otlp === undefined ? [] : [otlp.target.endpoint],
    ...(otlp === undefined || config.otlpHeaders === ""
      ? {}
      : { secrets: { WEIR_OTLP_HEADERS: config.otlpHeaders } }),
  };
}

/** What is taken out of L7 flows; no arguments where nothing is. */
export function redactionArgs(config: AgentConfig): string[] {
  return config.hubbleRedactEnabled ? flagsOf(REDACTION_OPTIONS, config) : [];
}

/** Makes the directories that are not there, for the services' user; those that are there stay as they are. */
export async function createExportDirectories(config: AgentConfig, layout: Layout): Promise<void> {
  for (const path of exportDirectories(config, layout)) {
    const isThere = await Deno.stat(path).then(() => true, () => false);
    if (!isThere) await directory(path, 0o750, layout.uid, layout.gid);
  }
}

function exportDirectories(config: AgentConfig, layout: Layout): string[] {
  const { hubbleExportFilePath: file, hubbleFlowlogsConfigPath, hubbleFlowlogsDirectory } = config;
  const directories = [
    ...(file === "" ? [] : [file.slice(0, file.lastIndexOf("/"))]),
    ...(hubbleFlowlogsConfigPath === "" ? [] : [hubbleFlowlogsDirectory.replace(/\/+$/, "")]),
  ];
  if (hubbleFlowlogsConfigPath !== "" && !isPlainPath(hubbleFlowlogsConfigPath)) {
    throw new AgentConfigError(
      `Cannot take --hubble-flowlogs-config-path ${hubbleFlowlogsConfigPath}: expected an absolute path`,
    );
  }
  for (const path of directories) {
    if (!isPlainPath(path)) {
      throw new AgentConfigError(
        `Cannot export flows to ${path || "/"}: expected the absolute path of a directory`,
      );
    }
    for (const own of [layout.state, layout.sockets, layout.code].map(parentOf)) {
      if (!isWithin(path, own) && !isWithin(own, path)) continue;
      throw new AgentConfigError(
        `Cannot export flows to ${path}: ${own} is Weir's own; expected another directory, such as /var/log/weir`,
      );
    }
  }
  return [...new Set(directories)];
}

const parentOf = (path: string) => path.slice(0, path.lastIndexOf("/"));
const isWithin = (path: string, directory: string) => path === directory || path.startsWith(`${directory}/`);

function flagsOf(flags: Partial<Record<keyof AgentConfig, string>>, config: AgentConfig): string[] {
  return Object.entries(flags).flatMap(([name, flag]) => {
    const value = config[name as keyof AgentConfig];
    if (value === "" || value === false || (Array.isArray(value) && value.length === 0)) return [];
    // One word, for a value may begin with a dash.
    return value === true ? [`--${flag}`] : [`--${flag}=${value}`];
  });
}
