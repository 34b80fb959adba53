/** Two processes that want to lead, at a real API server: one is stopped in the middle of its work, and goes on later. @module */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { RESOURCES } from "@weir/kubernetes/api";
import { missingPrograms, RealApiServer } from "../../services/kubernetes/testing/real_api_server.ts";

Deno.test({
  name: "A leader that was stopped, and goes on when another leads, writes nothing more",
  ignore: missingPrograms() !== undefined,
  fn: async () => {
    await using server = await RealApiServer.start();
    const client = server.client();
    /** Who wrote, each time when it was another than before. */
    const writers: string[] = [];
    let writes = 0;
    const stop = new AbortController();
    const { resourceVersion } = await client.list(RESOURCES.ConfigMap, { namespace: "default" });
    const watching = (async () => {
      for await (
        const events of client.watch(RESOURCES.ConfigMap, {
          namespace: "default",
          resourceVersion,
          signal: stop.signal,
        })
      ) {
        for (const { object } of events) {
          if (object.metadata.name !== "writer") continue;
          writes++;
          const { holder } = object.data as { holder: string };
          if (writers.at(-1) !== holder) writers.push(holder);
        }
      }
    })().catch((error) => {
      if (!stop.signal.aborted) throw error;
    });
    await using a = begin(server, "a");
    await until("a writes", () => writers.at(-1) === "a");
    await using b = begin(server, "b");
    a.kill("SIGSTOP");
    await until("b writes", () => writers.at(-1) === "b");
    a.kill("SIGCONT");
    const before = writes;
    await until("b goes on", () => writes > before + 50);
    assert.deepEqual(writers, ["a", "b"]);
    b.kill("SIGSTOP");
    await until("a writes again", () => writers.at(-1) === "a");
    b.kill("SIGCONT");
    const then = writes;
    await until("a goes on", () => writes > then + 50);
    assert.deepEqual(writers, ["a", "b", "a"]);
    stop.abort();
    await watching;
  },
});

function begin(server: RealApiServer, holder: string): Deno.ChildProcess {
  const script = new URL("./leader_process.ts", import.meta.url).pathname;
  const { server: url } = server.access();
  const authority = `${server.directory}/certificates/apiserver.crt`;
  return new Deno.Command("setpriv", {
    args: [
      "--pdeathsig",
      "KILL",
      Deno.execPath(),
      "run",
      "-A",
      script,
      url,
      authority,
      "admin-token",
      holder,
    ],
    stdin: "null",
    stdout: "null",
    stderr: "inherit",
  }).spawn();
}
