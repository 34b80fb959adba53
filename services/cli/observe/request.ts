/**
 * The flags of `weir observe`: those of `hubble observe` under their own names. The filters are the flow exporter's query
 * parameters; it alone knows what they mean.
 *
 * @module
 */
import { noWords, type OptionTable, parse, type ParsedArgs } from "../args.ts";
import { UsageError } from "../context.ts";
import { flagsOf, type FlagTexts } from "../manual/manual.ts";
import { CONNECTION_FLAGS, EVENTS_FLAGS, OBSERVE_FLAGS } from "../manual/observe.ts";
import { type OutputForm, outputForm } from "../output.ts";
import { didYouMean } from "../suggestion.ts";
import { FLOW_FORMS, type FlowForm } from "./flow_printer.ts";
import { checkGroups } from "./groups.ts";
import type { ServerFlags } from "./observer_client.ts";
import { TIME_FORMAT_DEFAULT, TIME_FORMATS } from "./time_text.ts";

/** What is told where flags are wrong. */
export const OBSERVE_HINT = "weir help observe";

/** Flows that are shown where nobody says how many. */
export const FLOWS_DEFAULT = 20;

/** What the arguments ask for. */
export interface ObserveRequest {
  /** Query parameters of the flow exporter, without follow. */
  readonly query: Record<string, string[]>;
  readonly follow: boolean;
  readonly form: FlowForm;
  /** Undefined: where there are several nodes. */
  readonly printNode: boolean | undefined;
  readonly why: boolean;
  readonly names: boolean;
  readonly timeFormat: string;
  readonly color: "auto" | "always" | "never";
  /** Nothing is said on stderr of what does not end the command. */
  readonly silent: boolean;
  readonly printRawFilters: boolean;
  /** "" for none, "-" for stdin. */
  readonly inputFile: string;
  /** Of a server of Hubble's API. */
  readonly server: ServerFlags;
  /** Add up by these. */
  readonly groupBy: readonly string[];
}

/** What `weir observe connections` asks for. */
export interface ConnectionsRequest {
  /** Query parameters of filters and times. */
  readonly query: Record<string, string[]>;
  readonly groupBy: readonly string[];
  readonly limit: number;
  readonly form: OutputForm;
}
/** Rows that are shown where nobody says how many. */
export const ROWS_DEFAULT = 100;

/** Flags without a value that are filters, and the parameter that each is. */
const FILTER_SWITCHES: Readonly<Record<string, readonly [name: string, value: string]>> = {
  "ipv4": ["ip-version", "4"],
  "ipv6": ["ip-version", "6"],
  "all-namespaces": ["namespace", ""],
  "from-all-namespaces": ["from-namespace", ""],
  "to-all-namespaces": ["to-namespace", ""],
  "encrypted": ["encrypted", "true"],
  "unencrypted": ["encrypted", "false"],
  "reply": ["reply", "true"],
  "not-reply": ["reply", "false"],
};
/** Switches that exclude each other, as filters with values do. */
const EXCLUSIVE = [["encrypted", "unencrypted"], ["reply", "not-reply"]];
/** Switches that are on until they are turned off: `--ip-translation=false`. */
const ON = ["ip-translation", "print-policy-names", "use-default-field-masks"];
/** Flags that are no filters. */
const CONTROL = new Set([
  ...["follow", "all", "first", "last", "since", "until", "not", "allowlist", "denylist", "field-mask"],
  ...["output", "print-node-name", "print-policy-names", "time-format", "color", "ip-translation", "numeric"],
  ...["silent-errors", "print-raw-filters", "input-file", "use-default-field-masks", "group-by", "limit"],
  ...["tls", "tls-allow-insecure", "tls-ca-cert-files", "tls-client-cert-file", "tls-client-key-file"],
  ...["tls-server-name", "timeout"],
]);
/** Options of `weir observe`, for its parser. */
export const OBSERVE_OPTIONS: OptionTable = optionsOf(OBSERVE_FLAGS);
/** Options of `weir observe connections`. */
export const CONNECTION_OPTIONS: OptionTable = optionsOf(CONNECTION_FLAGS);
/** Options of `weir observe agent-events` and `debug-events`. */
export const EVENTS_OPTIONS: OptionTable = optionsOf(EVENTS_FLAGS);

function optionsOf(flags: FlagTexts): OptionTable {
  return Object.fromEntries(
    flagsOf(flags).map(({ name, short, value, repeated }) => [
      name,
      {
        type: value === undefined ? "boolean" : "string",
        multiple: repeated,
        ...(short === undefined ? {} : { short }),
      } as const,
    ]),
  );
}

/** What the text of a flow is made of; asked for, so that no more is sent. */
const PRINTED_FIELDS = [
  ...["time", "verdict", "ethernet", "IP", "l4", "source.identity", "source.namespace", "source.pod_name"],
  ...["destination.identity", "destination.namespace", "destination.pod_name", "Type", "node_name", "l7"],
  ...["event_type", "source_service", "destination_service", "source_names", "destination_names", "is_reply"],
  ...["Summary", "ip_trace_id", "auth_type", "traffic_direction", "policy_match_type", "drop_reason_desc"],
  ...["ingress_allowed_by", "ingress_denied_by", "egress_allowed_by", "egress_denied_by", "file", "tunnel"],
  ...["debug_capture_point", "trouble", "uuid"],
];

/** `--switch=true` and `--switch=false` taken apart, for a parser that knows switches only by their names. */
function withoutFalse(args: readonly string[], options: OptionTable): { words: string[]; off: Set<string> } {
  const off = new Set<string>(), words: string[] = [];
  for (const [index, word] of args.entries()) {
    if (word === "--") {
      words.push(...args.slice(index));
      break;
    }
    const match = /^--([a-z0-9-]+)=(.*)$/.exec(word);
    if (match === null || options[match[1]]?.type !== "boolean") {
      words.push(word);
      continue;
    }
    const [, name, value] = match;
    if (value === "true" || value === "1") words.push(`--${name}`);
    else if (value !== "false" && value !== "0") {
      throw new UsageError(`--${name} is "${value}": expected true or false`, OBSERVE_HINT);
    } else if (Object.hasOwn(FILTER_SWITCHES, name) || name === "not") {
      throw new UsageError(`Cannot take ${word}: leave it out`, OBSERVE_HINT);
    } else off.add(name);
  }
  return { words, off };
}

/** What both kinds of requests say of how things are printed and counted. */
export interface CommonArgs {
  readonly parsed: ParsedArgs;
  readonly isOn: (name: string) => boolean;
  readonly query: Record<string, string[]>;
  readonly form: FlowForm;
  readonly follow: boolean;
  readonly timeFormat: string;
}

function one(parsed: ParsedArgs, name: string): string | undefined {
  const value = parsed.values[name];
  return typeof value === "string" ? value : undefined;
}

function oneOf(name: string, value: string, known: readonly string[]): string {
  const found = known.find((word) => word.toLowerCase() === value.toLowerCase());
  if (found !== undefined) return found;
  throw new UsageError(
    `--${name} is "${value}"${didYouMean(value, known)}: expected ${known.join(", ")}`,
    OBSERVE_HINT,
  );
}

/** Reads what flows and events have in common. @throws {UsageError} */
export function readCommonArgs(args: readonly string[], options: OptionTable): CommonArgs {
  const { words, off } = withoutFalse(args, options);
  const parsed = parse(words, options, OBSERVE_HINT);
  noWords(parsed, OBSERVE_HINT);
  const isOn = (name: string) => parsed.values[name] === true || (ON.includes(name) && !off.has(name));
  const query: Record<string, string[]> = {};
  for (const name of ["first", "last", "since", "until"]) {
    const value = one(parsed, name);
    if (value === undefined) continue;
    if ((name === "first" || name === "last") && !/^\d{1,20}$/.test(value)) {
      throw new UsageError(`--${name} is "${value}": expected a whole number`, OBSERVE_HINT);
    }
    query[name] = [value];
  }
  if (isOn("all")) query.all = ["true"];
  const follow = isOn("follow");
  for (const [a, b] of [["first", "last"], ["first", "all"], ["last", "all"], ["first", "follow"]]) {
    if ((a in query) && (b in query || (b === "follow" && follow))) {
      throw new UsageError(`Cannot combine --${a} and --${b}: say one of them`, OBSERVE_HINT);
    }
  }
  const said = oneOf("output", one(parsed, "output") ?? "compact", FLOW_FORMS);
  const form = (said === "tab" ? "table" : said) as FlowForm;
  if (follow && form === "table") {
    throw new UsageError("-o table cannot follow: take compact", OBSERVE_HINT);
  }
  const timeFormat = oneOf("time-format", one(parsed, "time-format") ?? TIME_FORMAT_DEFAULT, TIME_FORMATS);
  return { parsed, isOn, query, form, follow, timeFormat };
}

/** Reads the flags. `--not` turns the next filter round. @throws {UsageError} */
export function readObserveArgs(
  args: readonly string[],
  options: OptionTable = OBSERVE_OPTIONS,
): ObserveRequest {
  const common = readCommonArgs(args, options), { parsed, isOn, query, form } = common;
  readFilters(parsed, query);
  const masks = texts(parsed, "field-mask");
  if (texts(parsed, "group-by").length > 0 && (common.follow || form === "dict")) {
    throw new UsageError(
      `Cannot group ${common.follow ? "what goes on" : "-o dict"}: take -o table or json`,
      OBSERVE_HINT,
    );
  }
  const isJson = form === "json" || form === "jsonpb";
  if (masks.length > 0 && !isJson) {
    throw new UsageError(`--field-mask is for -o json: -o ${form} says what it prints itself`, OBSERVE_HINT);
  }
  for (const name of ["allowlist", "denylist"]) {
    if (texts(parsed, name).length > 0) query[name] = texts(parsed, name);
  }
  if (masks.length > 0) query["field-mask"] = masks;
  else if (!isJson && isOn("use-default-field-masks")) query["field-mask"] = [PRINTED_FIELDS.join(",")];
  return {
    query,
    form,
    follow: common.follow,
    printNode: isOn("print-node-name") || undefined,
    why: isOn("print-policy-names"),
    names: isOn("ip-translation") && !isOn("numeric"),
    timeFormat: common.timeFormat,
    color: oneOf("color", one(parsed, "color") ?? "auto", ["auto", "always", "never"]) as "auto",
    silent: isOn("silent-errors"),
    printRawFilters: isOn("print-raw-filters"),
    inputFile: one(parsed, "input-file") ?? "",
    server: serverFlags(common),
    groupBy: checkGroups(texts(parsed, "group-by"), OBSERVE_HINT),
  };
}

/** How a server of Hubble's API is spoken to. @throws {UsageError} */
export function serverFlags({ parsed, isOn }: CommonArgs): ServerFlags {
  const timeout = one(parsed, "timeout") ?? "5s";
  const [, number, unit] = /^(\d{1,6}(?:\.\d{1,3})?)(ms|s|m)$/.exec(timeout) ?? [];
  if (number === undefined || Number(number) === 0) {
    throw new UsageError(`--timeout is "${timeout}": expected a time such as 500ms or 5s`, OBSERVE_HINT);
  }
  const authorityFiles = texts(parsed, "tls-ca-cert-files").flatMap((text) => text.split(","));
  const [certFile, keyFile, serverName] = ["tls-client-cert-file", "tls-client-key-file", "tls-server-name"]
    .map((name) => one(parsed, name));
  const isInsecure = isOn("tls-allow-insecure");
  const said = authorityFiles.length > 0 || (certFile ?? keyFile ?? serverName) !== undefined;
  return {
    isTls: isOn("tls") || isInsecure || said,
    isInsecure,
    authorityFiles,
    certFile,
    keyFile,
    serverName,
    timeoutMs: Number(number) * { ms: 1, s: 1000, m: 60_000 }[unit as "s"],
  };
}

/** Reads the flags of `weir observe connections`. @throws {UsageError} */
export function readConnectionArgs(args: readonly string[]): ConnectionsRequest {
  const { words } = withoutFalse(args, CONNECTION_OPTIONS);
  const parsed = parse(words, CONNECTION_OPTIONS, OBSERVE_HINT);
  noWords(parsed, OBSERVE_HINT);
  const query: Record<string, string[]> = {};
  for (const name of ["since", "until"]) {
    const value = one(parsed, name);
    if (value !== undefined) query[name] = [value];
  }
  readFilters(parsed, query);
  const form = outputForm(one(parsed, "output"));
  const limitText = one(parsed, "limit"), limit = limitText === undefined ? ROWS_DEFAULT : Number(limitText);
  if (!(limit >= 1) || !Number.isInteger(limit)) {
    throw new UsageError(`--limit is "${limitText}": expected a number of rows`, OBSERVE_HINT);
  }
  return { query, form, limit, groupBy: checkGroups(texts(parsed, "group-by"), OBSERVE_HINT) };
}

function texts(parsed: ParsedArgs, name: string): string[] {
  const value = parsed.values[name];
  return Array.isArray(value) ? value.filter((item) => typeof item === "string") : [];
}

function readFilters({ given }: ParsedArgs, query: Record<string, string[]>): void {
  let not = false;
  const seen = { "": new Set<string>(), "not-": new Set<string>() };
  for (const { name, value } of given) {
    if (name === "not") {
      if (not) throw new UsageError("--not stands before one filter, not before another --not", OBSERVE_HINT);
      not = true;
      continue;
    }
    if (CONTROL.has(name)) continue;
    const prefix = not ? "not-" : "";
    not = false;
    const excluded = EXCLUSIVE.find((pair) => pair.includes(name))?.find((other) => other !== name);
    if (excluded !== undefined && seen[prefix].has(excluded)) {
      throw new UsageError(`Cannot combine --${excluded} and --${name}: leave out both`, OBSERVE_HINT);
    }
    seen[prefix].add(name);
    const [parameter, text] = FILTER_SWITCHES[name] ?? [name, value ?? ""];
    (query[`${prefix}${parameter}`] ??= []).push(text);
  }
  if (not) throw new UsageError("--not stands before a filter, and none follows", OBSERVE_HINT);
}
