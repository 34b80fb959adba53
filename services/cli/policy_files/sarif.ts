/**
 * Reports as SARIF 2.1.0, which code hosts show beside the lines.
 * @module
 */
import { WEIR_VERSION } from "@weir/common/version";

/** One line of a report. */
export interface SarifResult {
  readonly ruleId: string;
  readonly level: "error" | "warning" | "note";
  readonly text: string;
  /** "": of no file. */
  readonly file: string;
  readonly line: number;
  /** 0 or undefined: the line as a whole. */
  readonly column?: number;
}

/** The text of a report. @param rules what each `ruleId` stands for */
export function sarifReport(
  name: string,
  rules: Readonly<Record<string, string>>,
  results: readonly SarifResult[],
): string {
  const report = {
    version: "2.1.0",
    runs: [{
      tool: {
        driver: {
          name,
          version: WEIR_VERSION,
          rules: Object.entries(rules).map(([id, text]) => ({ id, shortDescription: { text } })),
        },
      },
      results: results.map(({ ruleId, level, text, file, line, column = 0 }) => ({
        ruleId,
        level,
        message: { text },
        locations: file === "" ? [] : [{
          physicalLocation: {
            artifactLocation: { uri: file },
            region: {
              startLine: Math.max(1, line),
              ...column > 0 ? { startColumn: column } : {},
            },
          },
        }],
      })),
    }],
  };
  return JSON.stringify(report, null, 2) + "\n";
}
