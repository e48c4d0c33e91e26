// graphile-worker: node graphile_worker.mjs fill|work URL COUNT.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

// Where `npm ci` has put it.
const require = createRequire(`${process.env.BENCH_NODE}/package.json`);
const { Logger, makeWorkerUtils, run } = require("graphile-worker");

const [verb, connectionString, count] = [process.argv[2], process.argv[3], Number(process.argv[4])];
const quiet = new Logger(() => () => {});
// As its own performance test has them, beside the default schema.
const settings = {
  concurrentJobs: 24,
  maxPoolSize: 25,
  localQueue: { size: 500, refetchDelay: { durationMs: 10 } },
  completeJobBatchDelay: 0,
  failJobBatchDelay: 0,
};

async function fill() {
  const utils = await makeWorkerUtils({ connectionString, logger: quiet });
  await utils.migrate();
  await utils.withPgClient((client) =>
    client.query(
      `SELECT count(*) FROM graphile_worker.add_jobs(ARRAY(
        SELECT ('nothing', '{}'::json, NULL, NULL, NULL, NULL, NULL, NULL)::graphile_worker.job_spec
        FROM generate_series(1, $1)))`,
      [count],
    ),
  );
  await utils.release();
}

async function work() {
  let number = 0;
  const say = (what) => {
    const now = (performance.timeOrigin + performance.now()) / 1000;
    const { user, system } = process.cpuUsage();
    process.stdout.write(`${what} ${now} ${(user + system) / 1e6}\n`);
  };
  const nothing = async () => {
    number += 1;
    if (number === 1) say("first");
    if (number === count) say("last");
  };
  const preset = { worker: { connectionString, ...settings } };
  await run({ preset, taskList: { nothing }, logger: quiet });
}

const { version } = JSON.parse(
  readFileSync(`${process.env.BENCH_NODE}/node_modules/graphile-worker/package.json`),
);
console.log(`uses graphile-worker ${version}, node ${process.version}; ${JSON.stringify(settings)}`);
await (verb === "fill" ? fill() : work());
