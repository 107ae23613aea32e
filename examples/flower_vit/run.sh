#!/bin/sh
# For each case: a round of two clients in Flower, then an audit of what each of them sent.
set -eu
cd "$(dirname "$0")"
kept=../../results/flower
for case in sgd head dp_1 dp_10 dp_mild; do
    echo "== $case"
    .venv/bin/python simulate.py "$case" "$kept/$case" 2> "$kept-$case.log" || { cat "$kept-$case.log"; exit 1; }
    for client in 0 1; do
        # the mod's noise, where there is any: the line that simulate.py printed says how much
        noise=$(cat "$kept/$case/noise")
        .venv/bin/privbench audit --model vit_vanilla --lr 0.01 --noise "$noise" \
            --before "$kept/$case/round-1/client-$client/before.npz" \
            --after "$kept/$case/round-1/client-$client/after.npz" \
            --truth "$kept/$case/pictures/$client" --tier smoke \
            --out "$kept/$case/audit-$client" > "$kept/$case/audit-$client.txt"
        echo "client $client: $(head -n 1 "$kept/$case/audit-$client.txt")"
    done
done
echo "Pages: results/flower/CASE/audit-CLIENT/index.html"
