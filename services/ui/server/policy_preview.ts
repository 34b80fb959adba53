/** A policy that is tried before it is applied: what is asked of the flow history, and its answer for the page. Pure but for reading the body. @module */
import { ProblemError, protocolName, readBody } from "@weir/common";
import { MANIFEST_BYTES_MAX } from "@weir/common/manifest";
import type { PreviewAnswer } from "@weir/proto/history";
import type { RuleSource } from "@weir/proto/policy";
import type { PolicyPreview, PreviewEffect } from "../api.ts";

const SINCE_H_MAX = 24 * 366, FILE_LENGTH_MAX = 200;
/** Changes that the page gets; what closes comes first. */
const CHANGES_MAX = 500;
const EFFECTS: readonly string[] = ["closes", "opens", "judges"] satisfies PreviewEffect[];
const ICMP: readonly number[] = [1, 58];

/** The body of `POST api/preview`: `{"text": "...", "file": "web.yaml", "sinceH": 24}`. @throws {ProblemError} QUERY_INVALID, BODY_TOO_LARGE */
export async function readPreview(request: Request): Promise<{ text: string; file: string; sinceH: number }> {
  // As JSON a text of many short lines or quotes takes up to twice its own length.
  const bytes = await readBody(request, 2 * MANIFEST_BYTES_MAX + 4096);
  let body: unknown;
  try {
    body = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw invalid("JSON");
  }
  const { text, file = "policy.yaml", sinceH = 24 } = (body ?? {}) as Record<string, unknown>;
  if (typeof text !== "string" || typeof file !== "string" || file.length > FILE_LENGTH_MAX) {
    throw invalid('{"text": "...", "file": "...", "sinceH": 24}');
  }
  const textBytes = new TextEncoder().encode(text).length;
  if (textBytes > MANIFEST_BYTES_MAX) {
    throw new ProblemError("BODY_TOO_LARGE", {
      status: 413,
      detail: `Cannot take the policies: ${textBytes} bytes of at most ${MANIFEST_BYTES_MAX}`,
      found: textBytes,
      expected: `at most ${MANIFEST_BYTES_MAX} bytes`,
    });
  }
  if (typeof sinceH !== "number" || !Number.isInteger(sinceH) || sinceH < 1 || sinceH > SINCE_H_MAX) {
    throw invalid(`sinceH from 1 to ${SINCE_H_MAX}`);
  }
  return { text, file, sinceH };
}

function invalid(expected: string): ProblemError {
  return new ProblemError("QUERY_INVALID", { status: 400, detail: "Cannot read the question", expected });
}

/** For the page. */
export function previewOf({ changes, counts, maps, record, warnings }: PreviewAnswer): PolicyPreview {
  const { closes, opens, judges, staysOpen, staysClosed, unjudged, otherwise } = counts!;
  return {
    counts: { closes, opens, judges, staysOpen, staysClosed, unjudged, otherwise },
    changes: changes.slice(0, CHANGES_MAX).filter(({ effect }) => EFFECTS.includes(effect)).map((change) => ({
      effect: change.effect as PreviewEffect,
      from: change.from,
      to: change.to,
      port: ICMP.includes(change.protocol)
        ? `${protocolName(change.protocol)} type ${change.port}`
        : `${change.port}/${protocolName(change.protocol)}`,
      connections: change.connections,
      lastUnixS: change.lastMs / 1000,
      rules: change.rules.map(placeOf),
      before: change.before.map(placeOf),
      byDefault: change.byDefault,
    })),
    moreChanges: Math.max(0, changes.length - CHANGES_MAX),
    nodes: maps!.nodes.map(({ node, entries, entriesBefore, bytes }) => ({
      node,
      entries,
      entriesBefore,
      bytes,
    })),
    tooLarge: maps!.tooLarge.map(({ name, entries, error }) =>
      error || `${name} would take ${entries} entries of at most ${maps!.entriesMax}`
    ),
    connections: record!.connections,
    isWhole: record!.complete,
    countedText: record!.completeness?.countedText ?? "",
    missingText: record!.completeness?.missingText ?? "",
    warnings,
  };
}

function placeOf({ policy, file, line }: RuleSource): string {
  return file === "" ? policy : `${policy} (${file.split("/").pop()}:${line})`;
}
