import grid

g = grid.connect("http://127.0.0.1:5000")
print(g.search("#digits"))
print(g.datasets("#digits"))

plan = grid.Plan.mlp([64, 128, 10], optimizer="adam", lr=0.002, metrics=["accuracy"])
run = g.train(plan, data="#digits", rounds=10)
result = run.result()  # one line for each round, as it ends
print(result.metrics)  # on the examples that the nodes hold out
result.plan.save("digits.plan")  # the plan, with what was learned in it
