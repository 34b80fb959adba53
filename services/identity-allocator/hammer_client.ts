/** Test helper: an allocator of its own process that allocates at once what it is told. @module */
import { Database } from "@weir/common/state";
import { createIdentityAllocator } from "./routes.ts";

if (import.meta.main) {
  const [url, node, count, sets] = Deno.args;
  const database = new Database(url);
  const allocator = createIdentityAllocator({ database });
  await allocator.start();
  const answers: Record<string, number> = {};
  const failures: string[] = [];
  let next = 0;
  // As many at once as several nodes would ask; all of them at once would wait for a connection for too long.
  await Promise.all(Array.from({ length: 16 }, async () => {
    for (let i = next++; i < Number(count); i = next++) {
      const label = `k8s:app=a${i % Number(sets)}`;
      try {
        const { identity } = await allocator.allocate({
          labels: [label, "k8s:io.kubernetes.pod.namespace=x"],
          node,
          holder: `${i}`,
          epoch: "",
          revision: 0,
        });
        const before = answers[label];
        if (before !== undefined && before !== identity!.number) {
          failures.push(`${label}: ${before} and ${identity!.number}`);
        }
        answers[label] = identity!.number;
      } catch (error) {
        failures.push((error as Error).message);
      }
    }
  }));
  console.log(JSON.stringify({ answers, failures }));
  await allocator.stop();
  await database.close();
}
