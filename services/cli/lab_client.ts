/**
 * The daemon of the lab that is meant.
 *
 * @module
 */
import { WeirClient } from "@weir/client";
import { LabStatus } from "@weir/proto/lab";
import { type CommandContext, UsageError } from "./context.ts";
import { question } from "@weir/client/status";

/** A lab answers when its nodes have what was asked for. */
const LAB_DEADLINE_MS = 600_000;

/** A client of the lab of this name, by default of the one that is meant. */
export function labClient(
  context: CommandContext,
  name: string | undefined = context.lab()?.name,
): WeirClient {
  if (name === undefined) throw new UsageError("No lab is up", "weir lab up");
  return new WeirClient({ socket: `${context.run.path}/lab/${name}/lab.sock` }, {
    deadlineMs: LAB_DEADLINE_MS,
  });
}

/** How long a lab may take for its status: it asks its nodes, two seconds long. */
export const STATUS_MS_MAX = 8000;

/** Status of the lab that is meant. Throws when its daemon does not answer in time. */
export async function labStatus(context: CommandContext): Promise<LabStatus> {
  const client = labClient(context);
  const { name, pid } = context.lab()!;
  const answer = await question(
    client,
    (client) => client.call("/v1/status", { method: "GET", response: LabStatus }),
    STATUS_MS_MAX,
  );
  if (answer.kind === "answered") return answer.value;
  if (answer.kind === "refused") throw new Error(`Cannot ask lab ${name}: ${answer.error}`);
  const how = answer.kind === "hung" ? `does not answer within ${STATUS_MS_MAX / 1000} s` : "is gone";
  throw new Error(
    `Cannot ask lab ${name}: its daemon (pid ${pid}) ${how}; remove the lab with weir lab down --lab ${name}`,
  );
}
