"""A table of wines: which of three growers made each is learned from its columns. `load` reads files such as wine.csv likewise."""

from sklearn.datasets import load_wine

import epochal

wine = load_wine()
table = dict(zip(wine.feature_names, wine.data.T, strict=True))
table["grower"] = [("Adamo", "Bruno", "Carlo")[number] for number in wine.target]

data = epochal.load(table, target="grower")
for note in data.notes:
    print(note)  # what each column was taken as

run = epochal.train(data, epochs=30, batch_size=16, quiet=True)
print(run.test)

# A row is a dict; columns may come in any order, and values may be missing.
row = {"alcohol": 13.7, "proline": 1200, "color_intensity": 5.6, "flavanoids": 2.9, "hue": 1.1, "ash": None, "magnesium": 101}
prediction = run.predict(row | {"malic_acid": 1.9, "alcalinity_of_ash": 17})
print(prediction[0], *prediction.notes, sep="\n")
