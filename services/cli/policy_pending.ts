/**
 * Changes of policies that are rolled back unless they are confirmed: `--confirm-within` of `weir policy apply` and `delete`, and
 * `weir policy confirm|rollback|pending`. The policy engine keeps the deadline; nothing here has to go on running.
 * @module
 */
import type { WeirClient } from "@weir/client";
import { ApplyResponse, ConfirmRequest, PendingChange } from "@weir/proto/policy";
import { flag, noWords, parse, type ParsedArgs, seconds, text } from "./args.ts";
import { clientOf } from "./clients.ts";
import { type CommandContext, type CommandIo, UsageError } from "./context.ts";
import { harmless } from "./harmless_text.ts";
import { nowS } from "./now.ts";
import { type Column, outputForm, render } from "./output.ts";

const HINT = "weir help policy";
/** Time to confirm a change that may cut off whoever makes it, in seconds, where a person is at a terminal. */
export const HOST_CONFIRM_S = 60;

export const CONFIRM_FLAGS = {
  "confirm-within": { type: "string" },
  "no-confirm": { type: "boolean" },
} as const;

/** What a request says of it. */
export interface Confirm {
  readonly confirmWithinS: number;
  readonly by: string;
}

/** What was asked for; undefined: nothing was. @throws {UsageError} */
export function confirmOf(parsed: ParsedArgs): Confirm | undefined {
  const given = text(parsed, "confirm-within");
  if (given !== undefined && flag(parsed, "no-confirm")) {
    throw new UsageError("--confirm-within and --no-confirm do not go together", HINT);
  }
  return given === undefined ? undefined : confirmWithin(seconds(given, HINT));
}

/** A wait of so many seconds, asked for by whoever runs this. */
export function confirmWithin(confirmWithinS: number): Confirm {
  const { SUDO_USER, USER } = Deno.env.toObject();
  return { confirmWithinS, by: SUDO_USER ?? USER ?? "" };
}

/** Says what will be rolled back, when, and how to keep it. */
export function tellPending(io: CommandIo, pending: PendingChange | undefined): void {
  if (pending === undefined) return;
  const { id, deadlineUnixS } = pending;
  io.err(
    `weir: ${id} is rolled back ${leftText(deadlineUnixS)} unless you keep it: weir policy confirm ${id}\n`,
  );
}

/** Says what waits, to somebody who looks at policies. */
export async function warnOfPending(io: CommandIo, client: WeirClient): Promise<void> {
  // An engine of an older version has none.
  const items = await client.collection("pendingchanges", PendingChange).list().then(
    ({ items }) => items,
    () => [],
  );
  tellFaults(io, items);
  for (const { id, by, deadlineUnixS, policies } of items.filter(isReadable)) {
    const who = by === "" ? "" : ` of ${harmless(by)}`;
    io.err(
      `weir: warning: ${id}${who} waits to be confirmed (${policies.length} ${
        policies.length === 1 ? "policy" : "policies"
      }), rolled back ${leftText(deadlineUnixS)}\n`,
    );
  }
}

/** `weir policy confirm [ID]` and `weir policy rollback [ID]`. */
export async function endPending(
  verb: "confirm" | "rollback",
  args: string[],
  context: CommandContext,
): Promise<number> {
  const { positionals: [id = "", ...more] } = parse(args, {}, HINT);
  if (more.length > 0) throw new UsageError("Say one change at most", HINT);
  const client = clientOf(context, "policy-engine");
  try {
    const { items } = await client.call(`/v1/policies:${verb}`, {
      request: { message: ConfirmRequest, value: { id } },
      response: ApplyResponse,
    });
    for (const { name, change } of items) context.io.out(`${name} ${change}\n`);
    return 0;
  } finally {
    client.close();
  }
}

const COLUMNS: Column<PendingChange>[] = [
  { title: "CHANGE", cell: ({ id }) => id },
  { title: "BY", cell: ({ by }) => by || "-" },
  { title: "ROLLED BACK", cell: ({ deadlineUnixS }) => leftText(deadlineUnixS) },
  {
    title: "POLICIES",
    cell: ({ policies }) =>
      policies.map(({ name, before }) => `${name}${before === undefined ? " (new)" : ""}`).join(", "),
  },
];

/** `weir policy pending` */
export async function pendingCommand(args: string[], context: CommandContext): Promise<number> {
  const parsed = parse(args, { output: { type: "string", short: "o" } }, HINT);
  noWords(parsed, HINT);
  const form = outputForm(text(parsed, "output")), client = clientOf(context, "policy-engine");
  try {
    const { items } = await client.collection("pendingchanges", PendingChange).list();
    tellFaults(context.io, items);
    if (items.length === 0 && form === "table") context.io.out("No change waits to be confirmed\n");
    else {
      const json = items.map((item) => PendingChange.toJson(item));
      context.io.out(render(form === "table" ? items.filter(isReadable) : items, COLUMNS, form, json));
    }
    return 0;
  } finally {
    client.close();
  }
}

/** False for one that the engine names and cannot read. */
function isReadable({ policies }: PendingChange): boolean {
  return policies.length > 0;
}

function tellFaults(io: CommandIo, items: readonly PendingChange[]): void {
  for (const { id, error } of items) {
    if (error !== "") io.err(`weir: warning: ${harmless(id)} cannot be rolled back: ${harmless(error)}\n`);
  }
}

function leftText(deadlineUnixS: number): string {
  const left = Math.round(deadlineUnixS - nowS());
  return left <= 0 ? "now" : `in ${left} s`;
}
