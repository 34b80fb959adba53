import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { Database } from "@weir/common/state";
import { createCertificateAuthority } from "./routes.ts";

/** An authority on this database, on a machine that believes what is in `file`. */
async function serving<T>(
  [path, file]: readonly [string, string],
  run: (ask: (path: string) => Promise<Response>) => Promise<T>,
): Promise<T> {
  const database = new Database(`sqlite:${path}`);
  const ca = createCertificateAuthority({ database, config: { authorityFile: file } });
  await ca.start({ wait: false });
  try {
    return await run(async (path) => await ca.api.fetch(new Request(`http://x${path}`)));
  } finally {
    await ca.stop();
    await database.close();
  }
}

async function becomesReady(ask: (path: string) => Promise<Response>): Promise<string> {
  await until("it is ready", async () => (await ask("/readyz")).ok);
  return (await (await ask("/v1/authority")).json()).authorityPem;
}

Deno.test("CertificateAuthority makes no new key on a machine that is a member, and shows no members of another database", async () => {
  const directory = await Deno.makeTempDir();
  const path = (name: string) => `${directory}/${name}`, kept = path("ca.crt");
  try {
    const first = await serving([path("ca.db"), kept], becomesReady);
    await Deno.writeTextFile(kept, first);
    assert.equal(await serving([path("ca.db"), kept], becomesReady), first, "its own database");
    await serving([path("other.db"), ""], becomesReady);
    for (const [name, why] of [["lost.db", "is empty"], ["other.db", "has the key of another authority"]]) {
      await serving([path(name), kept], async (ask) => {
        await until(
          `it says that its database ${why}`,
          async () => (await (await ask("/readyz?verbose")).text()).includes(why),
        );
        assert.equal((await ask("/v1/authority")).status, 503);
        for (const collection of ["members", "tokens", "withdrawals"]) {
          assert.equal((await ask(`/v1/${collection}`)).status, 503, collection);
        }
      });
    }
    assert.equal(await serving([path("ca.db"), kept], becomesReady), first, "put back");
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
