/**
 * Regular expressions of rules: RE2's, which take time in proportion to the text whatever they say. What a rule may say is bounded too, for
 * a client chooses the text.
 * @module
 */
import { RE2JS } from "@bufbuild/re2";

/** Most characters of one expression. */
export const PATTERN_LENGTH_MAX = 8192;
/** Most instructions that one expression may be compiled to: `[a-z]{1000}` has a thousand. */
export const PATTERN_INSTRUCTIONS_MAX = 20_000;

/** A rule that cannot be judged by: what is wrong with it, as a sentence without a subject. */
export class RuleFault extends Error {
  override readonly name = "RuleFault";
}

/** One compiled expression. */
export interface Pattern {
  readonly text: string;
  /** Whether the whole of a text is what the expression says. */
  isWhole(text: string): boolean;
  /** Whether some part of it is. */
  isPart(text: string): boolean;
}

/** @throws {RuleFault} where it is none of RE2's, too long, or too large once its repetitions are written out */
export function compilePattern(text: string, options: { readonly ignoreCase?: boolean } = {}): Pattern {
  if (text.length > PATTERN_LENGTH_MAX) {
    throw new RuleFault(
      `is a regular expression of ${text.length} characters, want at most ${PATTERN_LENGTH_MAX}`,
    );
  }
  let compiled: RE2JS;
  try {
    compiled = RE2JS.compile(text, options.ignoreCase ? RE2JS.CASE_INSENSITIVE : 0);
  } catch (error) {
    const why = (error as Error).message.replace(/^error parsing regexp: /, "");
    throw new RuleFault(
      `${quoted(text)} is no regular expression as RE2 has them: ${why}`,
      { cause: error },
    );
  }
  const instructions = compiled.re2().prog.numInst();
  if (instructions > PATTERN_INSTRUCTIONS_MAX) {
    throw new RuleFault(
      `${quoted(text)} is too large: ${instructions} instructions, want at most ${PATTERN_INSTRUCTIONS_MAX}`,
    );
  }
  return { text, isWhole: (value) => compiled.matches(value), isPart: (value) => compiled.test(value) };
}

const quoted = (text: string) => JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
