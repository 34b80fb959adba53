/** Parts of Hubble in Weir's configuration, which are on unless they are turned off. Pure. @module */
import { parseHostPort } from "@weir/common/join-token";
import { RELAY_PORT, UI_PORT } from "@weir/common/membership";
import type { Json } from "../install/values.ts";

/** A part by its name. */
export type HubblePart = "relay" | "ui" | "history";
/** All of them. */
export const PARTS: readonly HubblePart[] = ["relay", "ui", "history"];

type Config = Readonly<Record<string, Json>>;

/** Option that turns a part off, and its value then. */
const OFF: Readonly<Record<HubblePart, readonly [name: string, value: Json]>> = {
  relay: ["hubbleRelayListen", ""],
  ui: ["noUi", true],
  history: ["noFlowHistory", true],
};

/** Whether a part is on. */
export function isOn(config: Config, part: HubblePart): boolean {
  const [name, value] = OFF[part];
  if (part === "ui" && config.uiListen === "") return false;
  return config[name] !== value;
}

/** The configuration with each part on or off; whatever else is chosen stays. */
export function turned(config: Config, wanted: Readonly<Record<HubblePart, boolean>>): Record<string, Json> {
  const next: Record<string, Json> = { ...config };
  for (const part of PARTS) {
    if (isOn(next, part) === wanted[part]) continue;
    const [name, value] = OFF[part];
    if (!wanted[part]) next[name] = value;
    else {
      if (next[name] === value) delete next[name];
      if (part === "ui" && next.uiListen === "") delete next.uiListen;
    }
  }
  return next;
}

/** Port of a part on the control plane's node. */
export function portOf(config: Config, part: "relay" | "ui"): number {
  const [name, otherwise] = part === "relay" ? ["hubbleRelayListen", RELAY_PORT] : ["uiListen", UI_PORT];
  const listen = config[name];
  return (typeof listen === "string" ? parseHostPort(listen, otherwise)?.port : undefined) ?? otherwise;
}
