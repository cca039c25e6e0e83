"""The closed table of analytes and scores of a dementia work-up, in groups.

`ANALYTES` is what `clinical.units` looks up. What is not in it is not guessed: an unknown LOINC
has no use for us, an unknown unit is an error. Ranges are of adults and for orientation where the
sender gives none; the sender's range always wins. Those of amyloid, tau, NfL and GFAP depend on
the assay more than the others do.

Every LOINC code was held against a public listing (a laboratory's catalogue, value sets of quality
measures, FHIR examples) or is one of the common codes of the blood count and chemistry. Where none
could be verified, a local code begins with `LOCAL_CODE`, which LOINC leaves free for that.
A row more or less changes `clinical.units.table_version`: models must be trained again.
"""

# ruff: noqa: E501 - a row that breaks over lines cannot be compared with its neighbours
from clinical.analytes import (
    ALLELES,
    COUNT,
    EGFR,
    G_DL,
    IU_ML,
    MG_DL,
    MG_L,
    MMOL_L,
    NG_ML,
    PERCENT,
    PG_ML,
    PRESSURE,
    RATE,
    RATIO,
    RED,
    SECONDS,
    TITER,
    TSH,
    U_L,
    UG_DL,
    UMOL_L,
    VESSELS,
    WORDS,
    Analyte,
    by_age,
    by_sex,
    finding,
    lab,
    score,
)
from clinical.answers import E4_ALLELES, PRESENCE, TITERS

# fmt: off
# Miller's rule, at the middle of each decade: half the age in men, half the age plus ten in women.
_ESR = by_sex({age: (0, (age + 5 + 10) / 2) for age in range(20, 100, 10)},
              {age: (0, (age + 5) / 2) for age in range(20, 100, 10)})

BLOOD_COUNT = (
    lab("718-7", "Hemoglobin", by_sex((11.7, 15.3), (13.4, 17.0)), (2, 25), G_DL, "nordin2004", "59260-0 20509-6 30313-1 30350-3", {"mmol/L": 1.6114}),
    lab("4544-3", "Hematocrit", by_sex((35, 46), (39, 50)), (5, 75), PERCENT, "nordin2004", "20570-8 4545-0"),
    lab("789-8", "Erythrocytes", by_sex((3.94, 5.16), (4.25, 5.71)), (0.5, 10), RED, "nordin2004", "26453-1 790-6"),
    lab("787-2", "MCV", (82, 98), (40, 160), {"fL": 1.0, "um3": 1.0}, "nordin2004", "30428-7"),
    lab("785-6", "MCH", (27.1, 33.3), (8, 60), {"pg": 1.0, "fmol": 16.114}, "nordin2004", "28539-5"),
    lab("786-4", "MCHC", (31.7, 35.7), (15, 50), G_DL, "nordin2004", "28540-3", {"mmol/L": 1.6114}),
    lab("788-0", "RDW", (11.5, 14.5), (5, 50), PERCENT, "practice", "30385-9"),
    lab("6690-2", "Leukocytes", (3.5, 8.8), (0.1, 500), COUNT, "nordin2004", "26464-8 804-5"),
    lab("751-8", "Neutrophils", (1.8, 7.5), (0, 400), COUNT, "practice", "26499-4 753-4"),
    lab("731-0", "Lymphocytes", (1.0, 4.0), (0, 400), COUNT, "practice", "26474-7 732-8"),
    lab("777-3", "Platelets", by_sex((165, 387), (145, 348)), (1, 2500), COUNT, "nordin2004", "26515-7 778-1"),
    lab("4537-7", "ESR", _ESR, (0, 200), {"mm/h": 1.0, "mm/hr": 1.0}, "miller1983", "30341-2"),
    lab("6301-6", "INR", (0.8, 1.2), (0.5, 20), {"{INR}": 1.0, "1": 1.0, "": 1.0, "{ratio}": 1.0}, "practice", "34714-6"),
)

ELECTROLYTES = (
    lab("2951-2", "Sodium", (137, 145), (90, 200), MMOL_L, "norip2004", "2947-0"),
    lab("2823-3", "Potassium", (3.6, 5.0), (1, 12), MMOL_L, "practice", "6298-4"),
    lab("2075-0", "Chloride", (98, 107), (50, 160), MMOL_L, "practice", "2069-3"),
    lab("1963-8", "Bicarbonate", (22, 29), (3, 60), MMOL_L, "practice", "2028-9 20565-8"),
    lab("17861-6", "Calcium", (8.6, 10.1), (2, 25), MG_DL, "norip2004", "49765-1 2000-8", {"mmol/L": 4.008}),
    lab("1995-0", "Ionized calcium", (1.15, 1.32), (0.3, 4), {"mmol/L": 1.0}, "practice", "", {"mg/dL": 0.2495}),
    lab("19123-9", "Magnesium", (1.73, 2.28), (0.2, 15), MG_DL, "norip2004", "2601-3 2593-2", {"mmol/L": 2.4305}),
    lab("2777-1", "Phosphate", by_sex((2.63, 4.65), {0: (2.32, 5.11), 50: (2.32, 4.18)}), (0.2, 20), MG_DL, "norip2004", "14879-1", {"mmol/L": 3.0974}),
)

SUGAR_AND_LIPIDS = (
    lab("2345-7", "Glucose", (70, 99), (10, 1500), MG_DL, "ada2024", "2339-0 14749-6 15074-8 1558-6 14771-0 41653-7 2340-8", {"mmol/L": 18.016}),
    lab("4548-4", "HbA1c", (4.0, 5.6), (2.5, 25), {"%": 1.0, "%{HbA1c}": 1.0}, "ada2024", "17856-6 59261-8 4549-2", {"mmol/mol": 0.09148}, offsets={"mmol/mol": 2.152}),  # NGSP from IFCC
    lab("2093-3", "Total cholesterol", (125, 200), (30, 1500), MG_DL, "atp3", "14647-2", {"mmol/L": 38.67}),
    lab("18262-6", "LDL cholesterol", (0, 130), (0, 1000), MG_DL, "atp3", "13457-7 2089-1 22748-8 39469-2 69419-0", {"mmol/L": 38.67}),
    lab("2085-9", "HDL cholesterol", by_sex((50, None), (40, None)), (2, 250), MG_DL, "atp3", "14646-4", {"mmol/L": 38.67}),
    lab("43396-1", "Non-HDL cholesterol", (0, 160), (0, 1400), MG_DL, "atp3", "", {"mmol/L": 38.67}),
    lab("2571-8", "Triglycerides", (10, 150), (10, 15000), MG_DL, "atp3", "14927-8", {"mmol/L": 88.57}),
    lab("1884-6", "Apolipoprotein B", (40, 130), (5, 500), MG_DL, "practice"),
)

KIDNEY_AND_LIVER = (
    lab("2160-0", "Creatinine", by_sex((0.57, 1.02), (0.68, 1.13)), (0.1, 30), MG_DL, "norip2004", "38483-4 14682-9", {"umol/L": 0.01131, "mmol/L": 11.31}),
    lab("33914-3", "eGFR", (60, None), (1, 200), EGFR, "kdigo2024", "62238-1 98979-8 77147-7 48642-3 48643-1 50044-7 69405-9"),
    lab("33863-2", "Cystatin C", (0.6, 1.2), (0.2, 15), MG_L, "practice"),
    lab("3094-0", "Urea nitrogen", by_sex({0: (7.3, 17.9), 50: (8.7, 22.1)}, {0: (9.0, 22.7), 50: (9.8, 22.7)}), (1, 250), MG_DL, "norip2004", "6299-2 22664-7 14937-7", {"mmol/L": 2.801}),
    lab("3084-1", "Urate", by_sex({0: (2.6, 5.9), 50: (2.6, 6.7)}, (3.9, 8.1)), (0.2, 30), MG_DL, "norip2004", "14933-6", {"umol/L": 0.01681}),
    lab("9318-7", "Urine albumin/creatinine", (0, 30), (0, 30000), {"mg/g": 1.0, "ug/mg": 1.0, "mg/g{creat}": 1.0}, "kdigo2024", "14959-1", {"mg/mmol": 8.84, "g/mol": 8.84}),
    lab("1742-6", "ALT", by_sex((10, 45), (10, 70)), (1, 20000), U_L, "norip2004", "1743-4"),
    lab("1920-8", "AST", by_sex((15, 35), (15, 45)), (1, 20000), U_L, "norip2004", "30239-8"),
    lab("6768-6", "Alkaline phosphatase", (35, 105), (5, 5000), U_L, "norip2004"),
    lab("2324-2", "Gamma-GT", by_sex({0: (10, 45), 40: (10, 75)}, {0: (10, 80), 40: (15, 115)}), (1, 10000), U_L, "norip2004"),
    lab("2532-0", "Lactate dehydrogenase", by_age({0: (105, 205), 70: (115, 255)}), (20, 30000), U_L, "norip2004", "14804-9"),
    lab("2157-6", "Creatine kinase", by_sex((35, 210), {0: (50, 400), 50: (40, 280)}), (1, 300000), U_L, "norip2004"),
    lab("1975-2", "Bilirubin", (0.29, 1.46), (0, 60), MG_DL, "norip2004", "14631-6", {"umol/L": 0.05848}),
    lab("1968-7", "Direct bilirubin", (0, 0.3), (0, 40), MG_DL, "practice", "", {"umol/L": 0.05848}),
    lab("1751-7", "Albumin", by_age({0: (3.6, 4.8), 40: (3.6, 4.5), 70: (3.4, 4.5)}), (0.5, 8), G_DL, "norip2004", "61151-7 61152-5"),
    lab("2885-2", "Total protein", (6.2, 7.8), (2, 15), G_DL, "norip2004"),
    lab("16362-6", "Ammonia", (11, 35), (1, 2000), UMOL_L, "practice", "", {"ug/dL": 0.5872}),
)

HORMONES_VITAMINS_INFLAMMATION = (
    lab("3016-3", "TSH", by_age({0: (0.4, 4.5), 70: (0.4, 5.9), 80: (0.4, 7.5)}), (0, 500), TSH, "surks2007", "11579-0 11580-8"),
    lab("3024-7", "Free T4", (0.8, 1.8), (0.05, 20), {"ng/dL": 1.0, "ng/L": 0.1, "pg/mL": 0.1}, "practice", "14920-3", {"pmol/L": 0.07769}),
    lab("3051-0", "Free T3", (2.0, 4.4), (0.1, 50), PG_ML, "practice", "14928-6", {"pmol/L": 0.6510}),
    lab("3026-2", "Total T4", (5.0, 12.0), (0.2, 50), UG_DL, "practice", "14921-1", {"nmol/L": 0.07769}),
    lab("8099-4", "Thyroid peroxidase antibodies", (0, 35), (0, 50000), IU_ML, "practice"),
    lab("2143-6", "Cortisol", (5, 25), (0.1, 200), UG_DL, "practice", "", {"nmol/L": 0.03625}),
    lab("2731-8", "Parathyroid hormone", (15, 65), (0, 5000), PG_ML, "practice", "", {"pmol/L": 9.43}),
    lab("2132-9", "Vitamin B12", (203, 900), (20, 20000), PG_ML, "who2008", "14685-2", {"pmol/L": 1.3554}),
    lab("13964-2", "Methylmalonate", (0.07, 0.40), (0.01, 100), UMOL_L, "practice"),
    lab("2284-8", "Folate", (4, 20), (0.2, 200), NG_ML, "who2008", "14732-2", {"nmol/L": 0.4414}),
    lab("2283-0", "Folate in erythrocytes", (151, 800), (10, 5000), NG_ML, "who2008", "", {"nmol/L": 0.4414}),
    lab("32554-8", "Thiamine", (70, 180), (5, 2000), {"nmol/L": 1.0}, "practice"),  # by mass: of which phosphate?
    lab("1989-3", "25-OH vitamin D", (20, 50), (1, 400), NG_ML, "iom2011", "62292-8 14635-7", {"nmol/L": 0.4006}),
    lab("2276-4", "Ferritin", by_sex({0: (15, 150), 50: (15, 200)}, (15, 200)), (1, 50000), NG_ML, "who2020", "20567-4"),
    lab("2498-4", "Iron", (50, 190), (2, 1000), UG_DL, "norip2004", "14798-3", {"umol/L": 5.585}),
    lab("2502-3", "Transferrin saturation", (15, 50), (0, 100), PERCENT, "practice"),
    lab("13965-9", "Homocysteine", by_age({0: (5, 15), 65: (5, 20)}), (0.5, 500), UMOL_L, "refsum2004", "", {"mg/L": 7.397}),
    lab("1988-5", "CRP", (0, 5), (0, 1000), MG_L, "practice", "30522-7"),
)

HEART_MARKERS = (
    lab("33762-6", "NT-proBNP", by_age({0: (0, 450), 50: (0, 900), 75: (0, 1800)}), (0, 100000), PG_ML, "januzzi2006", "", {"pmol/L": 8.457}),
    lab("30934-4", "BNP", (0, 100), (0, 50000), PG_ML, "maisel2002", "42637-9", {"pmol/L": 3.464}),
    lab("67151-1", "Troponin T", (0, 14), (0, 100000), PG_ML, "giannitsis2010"),
    lab("10230-1", "Ejection fraction", (50, 75), (5, 90), PERCENT, "practice"),
)

TOXINS = (
    lab("5671-3", "Lead", (0, 5), (0, 300), UG_DL, "niosh", "", {"umol/L": 20.72}),
    lab("5685-3", "Mercury", (0, 10), (0, 2000), {"ug/L": 1.0, "ng/mL": 1.0, "ug/dL": 10.0}, "practice", "", {"nmol/L": 0.2006}),
    lab("5631-7", "Copper", (70, 140), (2, 500), UG_DL, "practice", "", {"umol/L": 6.355}),
    lab("2064-4", "Ceruloplasmin", (20, 50), (0.5, 150), MG_DL, "easl2012"),
    lab("20563-3", "Carboxyhemoglobin", (0, 3), (0, 80), PERCENT, "practice"),
    lab("5643-2", "Ethanol", (0, 10), (0, 800), MG_DL, "practice", "5640-8", {"mmol/L": 4.607}),
)

INFECTION = (
    finding("20507-0", "Syphilis reagin (RPR, VDRL)", "practice", PRESENCE, "22461-8 5292-8"),
    lab("31147-2", "Syphilis reagin titer", (0, 0.5), (0, 65536), TITER, "practice", "50690-7", answers=TITERS),
    finding("22587-0", "Treponemal antibodies", "practice", PRESENCE, "24110-9 24312-1 5393-4 8041-6 57032-5 47236-5 47238-1 34147-9 6561-5"),
    lab("31146-4", "CSF syphilis reagin titer (VDRL)", (0, 0.5), (0, 65536), TITER, "practice", answers=TITERS),
    finding("56888-1", "HIV antibodies and antigen", "practice", PRESENCE, "31201-7 49580-4 7917-8 68961-2"),
)

VITAL_SIGNS = (
    lab("29463-7", "Body weight", (None, None), (20, 400), {"kg": 1.0, "g": 0.001, "[lb_av]": 0.45359237, "lb": 0.45359237}, "none", "3141-9"),
    lab("8302-2", "Body height", (None, None), (80, 250), {"cm": 1.0, "m": 100.0, "[in_i]": 2.54, "in": 2.54, "mm": 0.1}, "none", "8306-3"),
    lab("39156-5", "Body mass index", (18.5, 25), (8, 120), {"kg/m2": 1.0, "kg/m^2": 1.0}, "who2000"),
    lab("8480-6", "Systolic blood pressure", (90, 140), (40, 300), PRESSURE, "esc2018", "76534-7"),
    lab("8462-4", "Diastolic blood pressure", (60, 90), (10, 200), PRESSURE, "esc2018", "76535-4"),
    lab("8867-4", "Heart rate", (50, 100), (15, 300), RATE, "practice", "40443-4"),
    lab("8310-5", "Body temperature", (36.1, 37.8), (25, 45), {"Cel": 1.0, "°C": 1.0}, "practice", "8331-1", {"[degF]": 5 / 9, "°F": 5 / 9}, offsets={"[degF]": -160 / 9, "°F": -160 / 9}),
    lab("59408-5", "Oxygen saturation", (94, 100), (30, 100), {"%": 1.0}, "practice", "2708-6"),
)

CEREBROSPINAL_FLUID = (
    lab("2880-3", "CSF protein", (15, 45), (1, 5000), MG_DL, "practice"),
    lab("2342-4", "CSF glucose", (45, 80), (1, 1000), MG_DL, "practice", "", {"mmol/L": 18.016}),
    lab("806-0", "CSF leukocytes", (0, 5), (0, 100000), {"/uL": 1.0, "/mm3": 1.0, "10*6/L": 1.0}, "practice"),
    lab("33203-1", "CSF amyloid beta 42", (1026, None), (10, 5000), PG_ML, "mayo"),
    lab("70072-4", "CSF amyloid beta 40", (None, None), (200, 60000), PG_ML, "none"),
    lab("98485-6", "CSF amyloid beta 42/40", (0.073, None), (0.001, 0.5), RATIO, "fda2022"),
    lab("30160-6", "CSF total tau", (0, 238), (0, 20000), PG_ML, "mayo"),
    lab("72260-3", "CSF p-tau181", (0, 21.7), (0, 1000), PG_ML, "mayo"),
    lab("X-PTAU181-ABETA42", "CSF p-tau181/amyloid beta 42", (0, 0.023), (0, 2), RATIO, "mayo"),
    lab("X-CSF-NFL", "CSF neurofilament light", (None, None), (50, 100000), PG_ML, "none"),
    finding("X-RT-QUIC", "CSF prion seeding (RT-QuIC)", "practice", PRESENCE),
    finding("X-SYNUCLEIN-SAA", "CSF alpha-synuclein seeding", "practice", PRESENCE),
)

BLOOD_MARKERS = (
    lab("106941-8", "Plasma amyloid beta 42/40", (None, None), (0.005, 0.5), RATIO, "none"),
    lab("104663-0", "Plasma p-tau217", (0, 0.185), (0, 50), PG_ML, "mayo"),
    lab("106940-0", "Plasma p-tau217, share", (None, None), (0, 100), {"%": 1.0, "{ratio}": 100.0, "1": 100.0}, "none"),
    lab("103675-5", "Plasma p-tau181", (0, 0.95), (0, 100), PG_ML, "labcorp"),
    lab("101281-4", "Neurofilament light", by_age({0: (0, 10), 51: (0, 15), 61: (0, 20), 70: (0, 35)}), (0, 5000), PG_ML, "simren2022"),
    lab("100435-7", "GFAP", by_age({0: (25, 136), 40: (34, 242), 65: (5, 438)}), (0, 20000), PG_ML, "tybirk2022"),
    finding("42315-2", "APOE e4 alleles", "none", E4_ALLELES, units=ALLELES),
    finding("15353-6", "Apolipoprotein E4", "none", PRESENCE),
)

COGNITION = (
    score("72106-8", "MMSE", (24, 30), (0, 30), "folstein1975", "72107-6"),
    score("72172-0", "MoCA", (26, 30), (0, 30), "nasreddine2005", "72133-2"),
    score("71492-3", "SLUMS", (27, 30), (0, 30), "tariq2006"),
    score("72233-0", "Mini-Cog", (3, 5), (0, 5), "borson2000"),
    score("58151-2", "BIMS", (13, 15), (0, 15), "chodosh2008", "54614-3"),
    score("72173-8", "BOMC", (0, 10), (0, 28), "katzman1983"),
    score("71722-3", "AD8", (0, 1), (0, 8), "galvin2005"),
    # CDR 0 is normal and 0.5 is not; the limit between them gives the range a width.
    score("72088-8", "CDR global", (0, 0.25), (0, 3), "morris1993"),
    score("X-CDR-SB", "CDR sum of boxes", (0, 0.25), (0, 18), "obryant2008"),
    score("X-ADAS-COG11", "ADAS-Cog, 11 items", (0, 11), (0, 70), "monllau2007"),
    score("X-ADAS-COG13", "ADAS-Cog, 13 items", (None, None), (0, 85), "mohs1997"),
    score("X-ACE-III", "ACE-III", (88, 100), (0, 100), "hsieh2013"),
    score("X-GLOBAL-DETERIORATION", "Global Deterioration Scale", (1, 3), (1, 7), "reisberg1982"),
    score("X-FAQ", "Functional Activities Questionnaire", (0, 5), (0, 30), "teng2010"),
    score("X-CLOCK-10", "Clock drawing, 10 points", (6, 10), (1, 10), "sunderland1989"),
    score("X-CLOCK-5", "Clock drawing, errors 0 to 5", (0, 1), (0, 5), "shulman1993"),
    lab("X-TRAILS-A", "Trail making A", by_age({0: (None, 46), 45: (None, 52), 55: (None, 57), 65: (None, 63), 70: (None, 73), 75: (None, 86), 80: (None, 105)}), (5, 600), SECONDS, "tombaugh2004", cognitive=True),
    lab("X-TRAILS-B", "Trail making B", by_age({0: (None, 91), 45: (None, 93), 55: (None, 117), 65: (None, 149), 70: (None, 180), 75: (None, 222), 80: (None, 284)}), (10, 900), SECONDS, "tombaugh2004", cognitive=True),
    lab("X-FLUENCY-ANIMALS", "Verbal fluency, animals", by_age({0: (11, 40), 60: (8, 40), 80: (7, 40)}), (0, 60), WORDS, "tombaugh1999", cognitive=True),
    lab("X-FLUENCY-LETTERS", "Verbal fluency, letters", (None, None), (0, 120), WORDS, "none", cognitive=True),
)

MOOD_BEHAVIOUR_MOVEMENT = (
    score("44261-6", "PHQ-9", (0, 4), (0, 27), "kroenke2001", cognitive=False),
    score("55758-7", "PHQ-2", (0, 2), (0, 6), "kroenke2003", cognitive=False),
    score("70274-6", "GAD-7", (0, 4), (0, 21), "spitzer2006", cognitive=False),
    score("48545-8", "GDS-15", (0, 4), (0, 15), "sheikh1986", cognitive=False),
    score("48544-1", "GDS-30", (0, 9), (0, 30), "yesavage1983", cognitive=False),
    score("75626-2", "AUDIT-C", (0, 3), (0, 12), "bush1998", cognitive=False),
    score("X-NPI", "NPI, 12 items", (0, 3), (0, 144), "cummings1994", cognitive=False),
    score("X-NPI-Q", "NPI-Q severity", (None, None), (0, 36), "kaufer2000", cognitive=False),
    score("X-UPDRS-III", "UPDRS III", (0, 3), (0, 108), "berg2015", cognitive=False),
    score("X-MDS-UPDRS-III", "MDS-UPDRS III", (0, 6), (0, 132), "berg2015", cognitive=False),
    score("X-HACHINSKI", "Hachinski ischemic score", (0, 4), (0, 18), "hachinski1975", cognitive=False),
    score("72089-6", "NIH Stroke Scale", (0, 0.5), (0, 42), "brott1989", cognitive=False),
    score("9269-2", "Glasgow Coma Scale", (14.5, 15), (3, 15), "teasdale1974", cognitive=False),
)

# Summaries of a scan as tables carry them; a scan itself goes through `imaging`.
BRAIN = (
    lab("X-INTRACRANIAL-VOLUME", "Estimated intracranial volume", by_sex((1162, 1641), (1371, 1914)), (800, 2500), {"mL": 1.0, "cm3": 1.0, "mm3": 0.001, "L": 1000.0}, "oasis2"),
    lab("X-BRAIN-FRACTION", "Normalized whole brain volume", by_age({0: (0.69, 0.82), 75: (0.67, 0.77)}), (0.4, 1), {**RATIO, "%": 0.01}, "oasis2"),
)

# For another hospital's question: the columns of a heart clinic.
EXERCISE_TEST = (
    lab("89273-7", "Highest heart rate in exercise", (None, None), (30, 260), RATE, "none"),
    lab("X-ST-DEPRESSION", "ST depression in exercise", (0, 1), (-5, 15), {"mm": 1.0, "mV": 10.0, "": 1.0}, "practice"),
    lab("X-CORONARY-VESSELS", "Narrowed coronary vessels", (0, 0.5), (0, 3), VESSELS, "detrano1989"),
    finding("X-EXERCISE-ANGINA", "Angina in exercise", "detrano1989", PRESENCE),
    finding("X-FASTING-GLUCOSE-120", "Fasting glucose above 120 mg/dL", "detrano1989", PRESENCE),
    score("X-CHEST-PAIN", "Chest pain, 1 typical to 4 none", (None, None), (1, 4), "detrano1989", cognitive=False),
    score("X-RESTING-ECG", "Resting ECG, 0 normal to 2 hypertrophy", (0, 0.5), (0, 2), "detrano1989", cognitive=False),
    score("X-ST-SLOPE", "ST slope, 1 up to 3 down", (1, 1.5), (1, 3), "detrano1989", cognitive=False),
    score("X-THALLIUM", "Thallium scan, 3 normal, 6 fixed, 7 reversible", (3, 3.5), (3, 7), "detrano1989", cognitive=False),
)
# fmt: on

ANALYTES: tuple[Analyte, ...] = (
    *BLOOD_COUNT,
    *ELECTROLYTES,
    *SUGAR_AND_LIPIDS,
    *KIDNEY_AND_LIVER,
    *HORMONES_VITAMINS_INFLAMMATION,
    *HEART_MARKERS,
    *TOXINS,
    *INFECTION,
    *VITAL_SIGNS,
    *CEREBROSPINAL_FLUID,
    *BLOOD_MARKERS,
    *COGNITION,
    *MOOD_BEHAVIOUR_MOVEMENT,
    *BRAIN,
    *EXERCISE_TEST,
)
