/**
 * What an export of flows to a file is, read from options (one) and from a YAML file (several). Words are those of Hubble's exporter:
 *
 *     flowLogs:
 *     - name: drops
 *       filePath: /var/log/weir/drops.log
 *       fieldMask: [time, source.pod_name, verdict]
 *       includeFilters: [{ verdict: [DROPPED] }]
 *       excludeFilters: []
 *       fileMaxSizeMb: 10
 *       fileMaxBackups: 5
 *       fileCompress: false
 *       end: "2026-12-31T23:59:59Z"
 *
 * @module
 */
import { ProblemError } from "@weir/common/problem";
import { compileFieldMask } from "@weir/proto/field_mask";
import { Flow, FlowFilter } from "@weir/proto/flow";
import { parse as parseYaml } from "yaml";
import { EXPORT_CONFIG } from "./options.ts";

/** One export to a file. */
export interface FlowLogSpec {
  readonly name: string;
  /** Absolute. */
  readonly filePath: string;
  /** Paths of flow.Flow; none: the whole flow. */
  readonly fieldMask: readonly string[];
  readonly includeFilters: readonly FlowFilter[];
  readonly excludeFilters: readonly FlowFilter[];
  readonly fileMaxSizeMb: number;
  readonly fileMaxBackups: number;
  readonly fileCompress: boolean;
  /** Unix milliseconds after which it writes no more. */
  readonly endMs?: number;
}

/** Name of the export of the options. */
export const STATIC_NAME = "static-exporter";
/** Exports of one file. */
export const FLOW_LOGS_MAX = 32;
const NAME_LENGTH_MAX = 100, FILTERS_MAX = 100;

/** Values of the options that {@link readStaticLog} asks for. */
export interface StaticLogOptions {
  readonly hubbleExportFilePath: string;
  readonly hubbleExportFileMaxSizeMb: number;
  readonly hubbleExportFileMaxBackups: number;
  readonly hubbleExportFileCompress: boolean;
  readonly hubbleExportAllowlist: string;
  readonly hubbleExportDenylist: string;
  readonly hubbleExportFieldmask: string;
}

/** The export of the options; undefined where there is none. @throws {ProblemError} FLOW_EXPORT_INVALID, which names the option */
export function readStaticLog(options: StaticLogOptions): FlowLogSpec | undefined {
  const { hubbleExportFilePath: filePath } = options;
  const include = readFilterList("--hubble-export-allowlist", options.hubbleExportAllowlist);
  const exclude = readFilterList("--hubble-export-denylist", options.hubbleExportDenylist);
  const fieldMask = readMask("--hubble-export-fieldmask", options.hubbleExportFieldmask.split(/[\s,]+/));
  if (filePath === "") return undefined;
  return {
    name: STATIC_NAME,
    filePath: readPath("--hubble-export-file-path", filePath),
    fieldMask,
    includeFilters: include,
    excludeFilters: exclude,
    fileMaxSizeMb: options.hubbleExportFileMaxSizeMb,
    fileMaxBackups: whole("--hubble-export-file-max-backups", options.hubbleExportFileMaxBackups),
    fileCompress: options.hubbleExportFileCompress,
  };
}

/**
 * The exports of a YAML file.
 * @param directory where their files must be
 * @throws {ProblemError} FLOW_EXPORT_INVALID, which names the place in the file
 */
export function readFlowLogs(text: string, directory: string): FlowLogSpec[] {
  let document: unknown;
  try {
    document = parseYaml(text, { logLevel: "error" }) ?? {};
  } catch (error) {
    throw invalid("the file", (error as Error).message.split("\n")[0], "YAML");
  }
  const { flowLogs } = record("the file", document, ["flowLogs"]);
  const logs = list("flowLogs", flowLogs ?? []).map((one, i) =>
    readFlowLog(`flowLogs[${i}]`, one, directory)
  );
  if (logs.length > FLOW_LOGS_MAX) {
    throw invalid("flowLogs", `${logs.length} exports`, `at most ${FLOW_LOGS_MAX}`);
  }
  for (const [i, { name, filePath }] of logs.entries()) {
    const twin = logs.slice(0, i).find((other) => other.name === name || other.filePath === filePath);
    if (twin === undefined) continue;
    throw twin.name === name
      ? invalid(`flowLogs[${i}].name`, name, "a name that no other has")
      : invalid(`flowLogs[${i}].filePath`, filePath, `a file of its own: ${twin.name} writes it`);
  }
  return logs;
}

const KEYS = [
  ...["name", "filePath", "fieldMask", "includeFilters", "excludeFilters"],
  ...["fileMaxSizeMb", "fileMaxBackups", "fileCompress", "end"],
];

function readFlowLog(at: string, value: unknown, directory: string): FlowLogSpec {
  const given = record(at, value, KEYS);
  const name = given.name;
  if (typeof name !== "string" || name === "" || name.length > NAME_LENGTH_MAX || name === STATIC_NAME) {
    throw invalid(`${at}.name`, name, `1 to ${NAME_LENGTH_MAX} characters, not ${STATIC_NAME}`);
  }
  const filePath = readPath(`${at}.filePath`, given.filePath);
  if (!filePath.startsWith(`${directory.replace(/\/+$/, "")}/`)) {
    throw invalid(`${at}.filePath`, filePath, `a file below ${directory} (--hubble-flowlogs-directory)`);
  }
  const filters = (key: "includeFilters" | "excludeFilters") =>
    list(`${at}.${key}`, given[key] ?? []).map((one, i) => readFilter(`${at}.${key}[${i}]`, one));
  const end = given.end === undefined || given.end === null ? undefined : Date.parse(String(given.end));
  if (Number.isNaN(end)) throw invalid(`${at}.end`, given.end, "a time such as 2026-12-31T23:59:59Z");
  const { hubbleExportFileMaxSizeMb: size, hubbleExportFileMaxBackups: backups } = EXPORT_CONFIG;
  const compress = given.fileCompress ?? false;
  if (typeof compress !== "boolean") throw invalid(`${at}.fileCompress`, compress, "true or false");
  return {
    name,
    filePath,
    fieldMask: readMask(`${at}.fieldMask`, list(`${at}.fieldMask`, given.fieldMask ?? [])),
    includeFilters: filters("includeFilters"),
    excludeFilters: filters("excludeFilters"),
    // Hubble takes 0 for the default.
    fileMaxSizeMb: inRange(`${at}.fileMaxSizeMb`, given.fileMaxSizeMb || size.default, size),
    fileMaxBackups: whole(
      `${at}.fileMaxBackups`,
      inRange(`${at}.fileMaxBackups`, given.fileMaxBackups || backups.default, backups),
    ),
    fileCompress: compress,
    ...(end === undefined ? {} : { endMs: end }),
  };
}

/** FlowFilters in JSON, one after the other, with commas or spaces between, or as a list. */
export function readFilterList(at: string, text: string): FlowFilter[] {
  if (text.trim() === "") return [];
  // A text cannot hold "}" and "{" with a line between, so this takes nothing apart that belongs together but a very odd regular expression.
  const parsed = tryJson(`[${text}]`) ?? tryJson(`[${text.replace(/\}\s+\{/g, "},{")}]`);
  if (parsed === undefined) throw invalid(at, text, 'FlowFilters in JSON, such as {"verdict":["DROPPED"]}');
  const filters = parsed.length === 1 && Array.isArray(parsed[0]) ? parsed[0] : parsed;
  if (filters.length > FILTERS_MAX) throw invalid(at, `${filters.length} filters`, `at most ${FILTERS_MAX}`);
  return filters.map((one, i) => readFilter(`${at}[${i}]`, one));
}

function tryJson(text: string): unknown[] | undefined {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function readFilter(at: string, value: unknown): FlowFilter {
  try {
    return FlowFilter.fromJson(value);
  } catch (error) {
    throw invalid(at, value, `a FlowFilter: ${(error as Error).message}`);
  }
}

/** Paths of a field mask, looked at. @throws {ProblemError} FLOW_EXPORT_INVALID */
export function readMask(at: string, paths: readonly unknown[]): string[] {
  const texts = paths.map(String).filter((path) => path !== "");
  try {
    if (texts.length > 0) compileFieldMask<Flow>(Flow.name, texts);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw invalid(at, texts.join(" "), `names of fields of flow.Flow, with dots: ${error.message}`);
  }
  return texts;
}

function readPath(at: string, value: unknown): string {
  const isFile = typeof value === "string" && /^\/.+\/.*[^/]$/s.test(value) &&
    !/[,\p{Cc}]|\/\/|\/\.\.?(\/|$)/u.test(value);
  if (!isFile) {
    throw invalid(
      at,
      value,
      'the absolute path of a file in a directory, without "..", commas and control characters (stdout is not read by anybody)',
    );
  }
  return value;
}

function whole(at: string, value: number): number {
  if (!Number.isInteger(value)) throw invalid(at, value, "a whole number");
  return value;
}

function inRange(at: string, value: unknown, { min, max }: { min: number; max: number }): number {
  if (typeof value === "number" && value >= min && value <= max) return value;
  throw invalid(at, value, `a number from ${min} to ${max}`);
}

function list(at: string, value: unknown): unknown[] {
  if (!Array.isArray(value)) throw invalid(at, value, "a list");
  if (value.length > FILTERS_MAX) throw invalid(at, `${value.length} entries`, `at most ${FILTERS_MAX}`);
  return value;
}

function record(at: string, value: unknown, keys: readonly string[]): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw invalid(at, value, "a mapping");
  }
  for (const key of Object.keys(value)) {
    if (!keys.includes(key)) throw invalid(`${at}: ${key}`, key, `one of ${keys.join(", ")}`);
  }
  return value as Record<string, unknown>;
}

function invalid(at: string, value: unknown, expected: string): ProblemError {
  const found = (typeof value === "string" ? value : JSON.stringify(value) ?? "nothing").slice(0, 200);
  return new ProblemError("FLOW_EXPORT_INVALID", {
    detail: `Cannot export flows: ${at}: found ${found}, expected ${expected}`,
    found,
    expected,
  });
}
