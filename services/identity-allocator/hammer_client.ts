/** Test helper: an allocator of its own process that allocates at once what it is told. @module */
import { Database } from "@weir/common/state";
import { createIdentityAllocator } from "./identity_allocator.ts";

if (import.meta.main) {
  const [url, node, count, sets] = Deno.args;
  const database = new Database(url);
  const allocator = createIdentityAllocator({ database });
  await allocator.start();
  const answers: Record<string, number> = {};
  const failures: string[] = [];
  await Promise.all(Array.from({ length: Number(count) }, async (_, i) => {
    const label = `k8s:app=a${i % Number(sets)}`;
    try {
      const { identity } = await allocator.allocate({
        labels: [label, "k8s:io.kubernetes.pod.namespace=x"],
        node,
        holder: `${i}`,
      });
      const before = answers[label];
      if (before !== undefined && before !== identity!.number) {
        failures.push(`${label}: ${before} and ${identity!.number}`);
      }
      answers[label] = identity!.number;
    } catch (error) {
      failures.push((error as Error).message);
    }
  }));
  console.log(JSON.stringify({ answers, failures }));
  await allocator.stop();
  await database.close();
}
