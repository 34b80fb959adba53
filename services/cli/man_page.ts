/**
 * Man pages from the same manuals as `weir help`: weir(1), and weir-COMMAND(1) for each command.
 *
 * @module
 */
import { EXIT_CODES, flagsOf, type FlagTexts, GLOBAL_FLAGS, type Manual } from "./manual/manual.ts";

/** Files that Weir has on a host that it is installed on. */
const PATHS: Readonly<Record<string, string>> = {
  "/etc/weir/weir.yaml": "configuration of the agent",
  "/run/weir": "sockets of the services",
  "/var/lib/weir": "state",
  "/sys/fs/bpf/weir": "programs, maps and links in the kernel",
};

/** Roff by file name: "weir.1", "weir-policy.1". */
export function manPages(manuals: Readonly<Record<string, Manual>>, version: string): Map<string, string> {
  const names = Object.keys(manuals);
  const pages = new Map([["weir.1", overview(manuals, version)]]);
  for (const name of names) pages.set(`weir-${name}.1`, page(name, manuals[name], version));
  return pages;
}

function overview(manuals: Readonly<Record<string, Manual>>, version: string): string {
  return [
    ...head("weir", version),
    ".SH NAME",
    "weir \\- networking, security and observability of workloads from their identity",
    ".SH SYNOPSIS",
    ".B weir",
    escape("[--lab NAME] [--node NAME] [--server ADDRESS] COMMAND ..."),
    ".SH COMMANDS",
    ...Object.entries(manuals).flatMap(([name, { summary }]) => [
      ".TP",
      `.BR weir\\-${escape(name)} (1)`,
      escape(summary),
    ]),
    ".SH OPTIONS",
    ...options(GLOBAL_FLAGS),
    ...exitStatus(),
    ".SH FILES",
    ...Object.entries(PATHS).flatMap(([path, says]) => [".TP", `.I ${escape(path)}`, escape(says)]),
  ].join("\n") + "\n";
}

function page(name: string, { summary, verbs, notes }: Manual, version: string): string {
  const synopsis = Object.entries(verbs).map(([verb, { words = "", flags = {} }]) =>
    ["weir", name, verb, Object.keys(flags).length > 0 ? "[flags]" : "", words].filter((word) => word !== "")
      .join(" ")
  );
  return [
    ...head(`weir-${name}`, version),
    ".SH NAME",
    `weir\\-${escape(name)} \\- ${escape(summary)}`,
    ".SH SYNOPSIS",
    ".nf",
    ...synopsis.map(escape),
    ".fi",
    ".SH DESCRIPTION",
    ...Object.entries(verbs).flatMap(([verb, { words = "", says, flags = {} }]) => [
      ...(verb === "" ? [] : [`.SS ${escape(`${verb} ${words}`.trim())}`]),
      escape(says),
      ...options(flags),
    ]),
    ...(notes === undefined ? [] : [".SH NOTES", ".nf", ...notes.trimEnd().split("\n").map(escape), ".fi"]),
    ".SH OPTIONS OF EVERY COMMAND",
    ...options(GLOBAL_FLAGS),
    ...exitStatus(),
    ".SH SEE ALSO",
    ".BR weir (1)",
  ].join("\n") + "\n";
}

function head(name: string, version: string): string[] {
  const title = escape(name.toUpperCase());
  return [
    `.\\" Made from the command's own help.`,
    `.TH ${title} 1 "" "Weir ${escape(version)}" "Weir"`,
    ".nh",
    ".ad l",
  ];
}

function options(flags: FlagTexts): string[] {
  return flagsOf(flags).flatMap(({ text, says }) => [".TP", `.B ${escape(text)}`, escape(says)]);
}

function exitStatus(): string[] {
  return [
    ".SH EXIT STATUS",
    ...Object.entries(EXIT_CODES).flatMap(([code, says]) => [".TP", `.B ${code}`, escape(says)]),
  ];
}

/** A line of text: backslashes and dashes are themselves, and no line is a request. */
function escape(text: string): string {
  const escaped = text.replaceAll("\\", "\\e").replaceAll("-", "\\-").replaceAll('"', "\\(dq");
  return /^[.']/.test(escaped) ? `\\&${escaped}` : escaped;
}
