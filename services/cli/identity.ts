/**
 * `weir identity list|get`.
 *
 * @module
 */
import { Identity } from "@weir/proto/identity";
import { parse, text } from "./args.ts";
import { clientOf } from "./clients.ts";
import { type CommandContext, UsageError } from "./context.ts";
import { labelMatcher } from "./label_text.ts";
import { type Column, outputForm, render } from "./output.ts";
import { unknownVerb } from "./suggestion.ts";

const HINT = "weir help identity";

const COLUMNS: Column<Identity>[] = [
  { title: "ID", cell: (identity) => identity.number },
  {
    title: "REFERENCES",
    cell: (identity) => identity.number < 256 ? "reserved" : String(identity.referenceCount),
  },
  { title: "LABELS", cell: (identity) => identity.labels.join(" ") },
];

/** Runs the command. */
export async function identityCommand(args: string[], context: CommandContext): Promise<number> {
  const [verb, ...rest] = args;
  const parsed = parse(rest, {
    output: { type: "string", short: "o" },
    ...(verb === "get" ? {} : { selector: { type: "string", short: "l" } }),
  }, HINT);
  const form = outputForm(text(parsed, "output"));
  const client = clientOf(context, "identity-allocator");
  try {
    const identities = client.collection("identities", Identity);
    if (verb === "list" || verb === "ls") {
      const matches = labelMatcher(text(parsed, "selector"));
      const items = (await identities.list()).items.filter((identity) => matches(identity.labels));
      items.sort((a, b) => a.number - b.number);
      context.io.out(render(items, COLUMNS, form, items.map((item) => Identity.toJson(item))));
      return 0;
    }
    if (verb === "get") {
      const [number] = parsed.positionals;
      if (number === undefined || !/^\d+$/.test(number)) {
        throw new UsageError("Say the number of an identity", HINT);
      }
      const identity = await identities.get(number);
      if (identity === undefined) throw new Error(`Cannot find identity ${number}: see weir identity list`);
      context.io.out(
        render([identity], COLUMNS, outputForm(text(parsed, "output") ?? "yaml"), Identity.toJson(identity)),
      );
      return 0;
    }
  } finally {
    client.close();
  }
  throw unknownVerb("identity", verb, ["list", "get"]);
}
