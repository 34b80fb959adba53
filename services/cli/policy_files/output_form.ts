/**
 * The form of an answer, of commands that have more forms than a table.
 * @module
 */
import { type ParsedArgs, text } from "../args.ts";
import { UsageError } from "../context.ts";
import { didYouMean } from "../suggestion.ts";

/** A writer for each form that a command has; the first one is written where nothing is asked. */
export type Writers<Answer> = Readonly<Record<string, (answer: Answer) => string>>;

/** The writer that `-o` asks for. @throws {UsageError} there is none of that name */
export function writerOf<Answer>(
  parsed: ParsedArgs,
  writers: Writers<Answer>,
  hint: string,
): (answer: Answer) => string {
  const forms = Object.keys(writers), form = text(parsed, "output") ?? forms[0];
  if (Object.hasOwn(writers, form)) return writers[form];
  throw new UsageError(
    `Unknown output form "${form}"${didYouMean(form, forms)}: expected ${forms.join(", ")}`,
    hint,
  );
}
