/**
 * A process that takes part in an election, and while it leads writes its name into the ConfigMap `writer` all the time:
 * `leader_process.ts SERVER CA_FILE TOKEN HOLDER`.
 * @module
 */
import { ApiClient, certificatesOf, FixedToken, RESOURCES } from "@weir/kubernetes/api";
import { LeaderElection } from "../../services/kubernetes/operator/leader_election.ts";

const [server, authority, token, holder] = Deno.args;
const client = new ApiClient({
  server,
  authorities: certificatesOf(Deno.readTextFileSync(authority)),
  token: new FixedToken(token),
});
new LeaderElection(client, {
  namespace: "default",
  name: "leader-test",
  holder,
  times: { leaseMs: 3000, renewMs: 2000, retryMs: 400 },
  async lead(term) {
    for (let number = 1; !term.signal.aborted; number++) {
      try {
        term.check();
        const data = { holder, number: `${number}` };
        await client.apply(
          RESOURCES.ConfigMap,
          { metadata: { name: "writer", namespace: "default" }, data },
          {
            force: true,
            signal: term.signal,
            deadlineMs: term.requestMsMax,
          },
        );
      } catch {
        // It does not lead, or does not know it: the election says.
      }
      await client.clock.sleep(20, term.signal);
    }
  },
}).start();
