/** SARIF 2.1.0 (OASIS), the form that code review tools read. @module */
import { CODES } from "@weir/verifier";
import type { Entry } from "./entry.ts";
import { codeName, pageOf, parseCode } from "./pages.ts";

/** The entries as one SARIF log with one run; accepted programs give no result. */
export function toSarif(entries: readonly Entry[], version: string): unknown {
  const found = entries.filter((entry) => entry.verdict !== "accepted");
  const codes = [...new Set(found.map((entry) => entry.code))].sort();
  return {
    $schema: "https://json.schemastore.org/sarif-2.1.0.json",
    version: "2.1.0",
    runs: [{
      tool: { driver: { name: "weir verify", version, rules: codes.map(rule) } },
      results: found.map((entry) => result(entry, codes)),
    }],
  };
}

function rule(code: string): unknown {
  const number = parseCode(code) ?? 0;
  const page = pageOf(number);
  return {
    id: code,
    name: codeName(number),
    shortDescription: {
      text: CODES.get(number)?.template.replaceAll(/\{\d\}/g, "…") ?? page?.meaning ?? code,
    },
    fullDescription: { text: page?.meaning ?? code },
    help: { text: `${page?.fix ?? ""}. Run: weir verify --explain ${code}` },
  };
}

function result(entry: Entry, codes: readonly string[]): unknown {
  const location = entry.file === ""
    ? { physicalLocation: { artifactLocation: { uri: entry.object } } }
    : at(entry);
  return {
    ruleId: entry.code,
    ruleIndex: codes.indexOf(entry.code),
    level: entry.verdict === "unsafe" ? "error" : entry.verdict === "not-proved" ? "error" : "warning",
    message: { text: `${entry.program}: ${entry.message}. ${entry.suggestion}` },
    locations: [location],
    ...(entry.lostAt === null || entry.lostAt.file === ""
      ? {}
      : { relatedLocations: [{ ...at(entry.lostAt), message: { text: entry.lostAt.reason } }] }),
    ...(entry.path.length === 0 ? {} : {
      codeFlows: [{
        threadFlows: [{ locations: entry.path.map((step) => ({ location: at(step) })) }],
      }],
    }),
    properties: { object: entry.object, section: entry.section, verdict: entry.verdict, hash: entry.hash },
  };
}

function at(place: { file: string; line: number; column: number; text: string }): object {
  return {
    physicalLocation: {
      artifactLocation: { uri: place.file },
      region: {
        startLine: Math.max(1, place.line),
        ...(place.column > 0 ? { startColumn: place.column } : {}),
        snippet: { text: place.text },
      },
    },
  };
}
