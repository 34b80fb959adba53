/** Keeps what a listener must know of the cluster's members and tokens in step with the certificate authority. @module */
import type { Clock } from "@weir/common/clock";
import type { Logger } from "@weir/common/log";
import { TrustTable } from "@weir/common/trust";
import { Member, Token } from "@weir/proto/certificate";
import { WeirClient } from "./client.ts";
import { Reflector } from "./reflector.ts";
import type { Target } from "./transport.ts";

/**
 * A table that follows the authority at `address` until `signal` aborts. While the authority is away it stays as it was:
 * who was removed stays so. With `membersOnly` no token is believed.
 */
export function watchTrust(
  address: Target | string,
  parts: { log: Logger; clock: Clock; signal: AbortSignal; membersOnly?: boolean },
): TrustTable {
  const { signal, membersOnly, ...rest } = parts;
  const table = new TrustTable();
  const client = new WeirClient(address);
  const members = new Reflector(client.collection("members", Member), {
    ...rest,
    onChange: (name, member) => table.setMember(name, member),
  }).start();
  const tokens = membersOnly ? undefined : new Reflector(client.collection("tokens", Token), {
    ...rest,
    onChange: (id, token) => table.setToken(id, token),
  }).start();
  Promise.all([members.waitSynced(signal), tokens?.waitSynced(signal)]).then(() => {
    if (!signal.aborted) table.pending = undefined;
  });
  signal.addEventListener("abort", async () => {
    await Promise.all([members.stop(), tokens?.stop()]);
    client.close();
  }, { once: true });
  return table;
}
