/** Words that the specs of services are made of. @module */
import { hostPort, parseHostPort } from "@weir/common";
import { AgentConfigError } from "./config.ts";

/** Where one listens for clients of another kind, as the addresses above are written; "" when nowhere. */
export function listenTarget(
  flag: string,
  listen: string,
  portDefault: number,
  tlsDirectory: string,
): string {
  if (listen === "") return "";
  const { hostname, port } = parseHostPort(listen, portDefault) ?? {};
  if (hostname === undefined || port === undefined) {
    throw new AgentConfigError(`--${flag} ${listen}: expected ADDRESS[:${portDefault}]`);
  }
  const target = hostPort(hostname, port);
  return tlsDirectory === "" ? `http://${target}` : `https://${target}#${tlsDirectory}`;
}

/** An address, where there is one. */
export function present(address: string): string[] {
  return address === "" ? [] : [address];
}

/** An option with its value, where it has one. */
export function optional(flag: string, value: string): string[] {
  return value === "" ? [] : [flag, value];
}

/** A flag, where it holds. */
export function where(holds: boolean, flag: string): string[] {
  return holds ? [flag] : [];
}
