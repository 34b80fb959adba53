/**
 * The daemon of the lab that is meant.
 *
 * @module
 */
import { WeirClient } from "@weir/client";
import { LabStatus } from "@weir/proto/lab";
import { type CommandContext, UsageError } from "./context.ts";

/** A client of the lab that is meant. */
export function labClient(context: CommandContext): WeirClient {
  const lab = context.lab();
  if (lab === undefined) throw new UsageError("No lab is up", "weir lab up");
  return new WeirClient({ socket: `${context.run.path}/lab/${lab.name}/lab.sock` });
}

/** Status of the lab that is meant. */
export async function labStatus(context: CommandContext): Promise<LabStatus> {
  const client = labClient(context);
  try {
    return await client.call("/v1/status", { method: "GET", response: LabStatus });
  } finally {
    client.close();
  }
}
