/** Says a finding in one sentence, in the names of the source. @module */
import type { SourceMap } from "@weir/object";
import { reportMessage, type VerifyReport } from "@weir/verifier";
import { contextOf, type Say } from "./sentence_context.ts";
import { CALLS } from "./sentences_calls.ts";
import { MEMORY } from "./sentences_memory.ts";
import { STRUCTURE } from "./sentences_structure.ts";

export { fileName, howLost, placeOf } from "./sentence_context.ts";

/** Sentences for the codes whose template names registers, maps, types or instructions; others are sentences already. */
const SENTENCES: Readonly<Record<number, Say>> = { ...STRUCTURE, ...MEMORY, ...CALLS };

/** The one sentence that says what is wrong. */
export function sentenceOf(report: VerifyReport, source: SourceMap, kind = "this type of program"): string {
  if (report.codeFacts === undefined) return "accepted";
  const say = SENTENCES[report.code];
  if (say !== undefined) return say(contextOf(report, source, kind));
  // The template, without its label.
  return reportMessage(report).replace(/^WV\d+ /, "");
}
