/**
 * What filters need from libraries: regular expressions of RE2 (time grows with the text alone, whoever wrote the pattern) and CEL.
 * They take megabytes, so they are loaded by the first request that uses them.
 * @module
 */
import { ProblemError } from "@weir/common";
import type { Init } from "@weir/proto";
import { Flow, type FlowFilter } from "@weir/proto/flow";

/** Says whether a text has a match of the pattern. */
export type Pattern = (text: string) => boolean;
/** Says whether a flow satisfies an expression; an error while it is evaluated is no match. */
export type Expression = (flow: Flow) => boolean;

/** Longest pattern and expression that are read, in UTF-16 units. */
export const PATTERN_LENGTH_MAX = 1024;
export const EXPRESSION_LENGTH_MAX = 4096;
/** Of an expression that goes through a list within a list: what it costs grows with the product of both. No deeper ones are taken. */
export const NESTED_EXPRESSION_LENGTH_MAX = 512;

/** Compilers; each throws FILTER_INVALID. */
export interface FilterEngines {
  pattern(field: string, text: string): Pattern;
  expression(text: string): Expression;
}

const PATTERN_FIELDS = ["dns_query", "http_path", "http_url"] as const;

/** Loads what these filters use. */
export async function loadEngines(filters: readonly Init<FlowFilter>[]): Promise<FilterEngines> {
  const uses = (field: keyof FlowFilter) => filters.some((filter) => isSet(filter[field]));
  const pattern = PATTERN_FIELDS.some(uses) ? await loadPatterns() : notLoaded;
  const expression = uses("experimental") ? await loadExpressions() : notLoaded;
  return { pattern, expression };
}

/** For filters that are known to use neither. */
export const NO_ENGINES: FilterEngines = { pattern: notLoaded, expression: notLoaded };

function notLoaded(): never {
  throw new Error("this filter was not looked at by loadEngines()");
}

function isSet(value: unknown): boolean {
  return Array.isArray(value) ? value.length > 0 : value !== undefined && value !== null;
}

/** A filter value that cannot be read. */
export function filterInvalid(field: string, value: unknown, expected: string): ProblemError {
  const text = String(JSON.stringify(value)).slice(0, 200);
  return new ProblemError("FILTER_INVALID", {
    status: 400,
    detail: `Cannot filter by ${field} ${text}: expected ${expected}`,
    found: String(value).slice(0, 200),
    expected,
  });
}

async function loadPatterns(): Promise<FilterEngines["pattern"]> {
  const { RE2JS } = await import("@bufbuild/re2");
  return (field, text) => {
    if (text.length > PATTERN_LENGTH_MAX) {
      throw filterInvalid(field, text, `at most ${PATTERN_LENGTH_MAX} characters`);
    }
    try {
      const compiled = new RE2JS(text);
      return (value) => compiled.test(value);
    } catch (error) {
      throw filterInvalid(field, text, `a regular expression as RE2 has them: ${(error as Error).message}`);
    }
  };
}

async function loadExpressions(): Promise<FilterEngines["expression"]> {
  const [cel, protobuf, wellKnown, { fileDescriptors }] = await Promise.all([
    import("@bufbuild/cel"),
    import("@bufbuild/protobuf"),
    import("@bufbuild/protobuf/wkt"),
    import("@weir/proto/file_descriptors"),
  ]);
  const descriptors = fileDescriptors(["google.protobuf", "flow"]);
  const registry = protobuf.createFileRegistry(
    protobuf.fromJson(wellKnown.FileDescriptorSetSchema, descriptors as never),
  );
  const schema = registry.getMessage(Flow.name)!;
  const environment = cel.celEnv({ namespace: "flow", registry });
  return (text) => {
    const expected = "a CEL expression over _flow that is true or false";
    if (text.length > EXPRESSION_LENGTH_MAX) {
      throw filterInvalid("cel_expression", text, `at most ${EXPRESSION_LENGTH_MAX} characters`);
    }
    let program: (bindings: never) => unknown;
    try {
      const parsed = cel.parse(text);
      const depth = loopDepth(parsed.expr);
      if (depth > 2 || (depth === 2 && text.length > NESTED_EXPRESSION_LENGTH_MAX)) {
        throw new Error(
          `lists are gone through at most one within another, in ${NESTED_EXPRESSION_LENGTH_MAX} characters then`,
        );
      }
      program = cel.plan(environment, parsed);
    } catch (error) {
      throw filterInvalid("cel_expression", text, `${expected}: ${(error as Error).message}`);
    }
    const evaluate = (flow: Flow): unknown => {
      try {
        return program({ _flow: protobuf.fromBinary(schema, Flow.encode(flow)) } as never);
      } catch (error) {
        return error;
      }
    };
    // Types are known when it is evaluated only: what a flow without anything gives shows most mistakes.
    const empty = evaluate(Flow.create());
    const isError = empty instanceof Error || cel.isCelError(empty);
    const text0 = isError ? `${(empty as Error).message}` : "";
    if (!isError ? typeof empty !== "boolean" : MISTAKES.test(text0)) {
      throw filterInvalid("cel_expression", text, isError ? `${expected}: ${text0}` : expected);
    }
    return (flow) => evaluate(flow) === true;
  };
}
/** How deep loops (`all`, `exists`, `map`, ...) lie within one another in a parsed expression. */
function loopDepth(node: unknown): number {
  if (typeof node !== "object" || node === null || ArrayBuffer.isView(node)) return 0;
  const inner = Math.max(0, ...Object.values(node).map(loopDepth));
  return inner + ((node as { case?: unknown }).case === "comprehensionExpr" ? 1 : 0);
}

/** Errors that no flow can mend. */
const MISTAKES = /field not found|unresolved|no such overload|unknown|undeclared|unbound/i;
