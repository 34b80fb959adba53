/** Recorded traffic, wherever it is. @module */
import type { CommandContext } from "../context.ts";
import { fileTraffic, type Traffic, type TrafficWindow } from "./traffic.ts";

/** Where a command takes its traffic from: a file, else the flow history of the cluster. */
export async function trafficOf(
  flows: string | undefined,
  window: TrafficWindow,
  context: CommandContext,
): Promise<Traffic> {
  if (flows !== undefined) return await fileTraffic(flows, window, context.io);
  return await (await import("./traffic_history.ts")).historyTraffic(window, context);
}
